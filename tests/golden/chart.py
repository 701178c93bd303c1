"""The chart's values with their defaults, the alerts, and the recording rules."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.golden import flat, held, sources

CHART = sources.ROOT / "charts" / "embedding-operator"
_RULES = (
    *sorted((sources.ROOT / "mixin" / "alerts").glob("*.yaml")),
    *sorted((sources.ROOT / "mixin" / "rules").glob("*.yaml")),
    CHART / "files" / "operator-alerts.yaml",
)
TOLD = ("description", "annotations")


def texts() -> held.Texts:
    """One file of values and one of rules."""
    values = yaml.safe_load((CHART / "values.yaml").read_bytes())
    schema = json.loads((CHART / "values.schema.json").read_bytes())
    return {
        "chart-values.txt": held.lines(
            (*flat.paths(values), *flat.paths(schema, left_out=TOLD, at="schema: "))
        ),
        "alerts.txt": held.lines(line for file in _RULES for line in _rules(file.read_bytes())),
    }


def _rules(text: bytes) -> Iterator[str]:
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            kind = "alert" if "alert" in rule else "record"
            yield f"{group['name']}: {kind} {rule[kind]}: annotations {_keys(rule)}"
            at = f"{group['name']}: {kind} {rule[kind]}: "
            yield from flat.paths(rule, left_out=(*TOLD, kind), at=at)


def _keys(rule: dict[str, Any]) -> str:
    return ", ".join(sorted(rule.get("annotations", {}))) or "none"
