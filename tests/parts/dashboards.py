"""The committed dashboards, and the queries of Grafana once variables are chosen."""

import json
from pathlib import Path
from typing import Any

from dashboards import mixin

FILES = sorted(mixin.CHART_FOLDER.glob("*.json"))
DEFAULTS = {"namespace": ".*", "policy": ".*", "price": "0"}


def load(file: Path) -> dict[str, Any]:
    """A dashboard as it is committed."""
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def filled(expr: str, **chosen: str) -> str:
    """An expression with its variables filled in, as Grafana does for All or for `chosen`."""
    for name, value in (DEFAULTS | chosen).items():
        expr = expr.replace(f"${name}", value)
    return expr


def queries(dashboard: dict[str, Any], **chosen: str) -> list[tuple[str, str]]:
    """Title and filled-in expression of each query."""
    return [
        (panel["title"], filled(target["expr"], **chosen))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
