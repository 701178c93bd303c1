"""`spec.alerts` as values: changes of built-in alerts, and additional alerts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator import errors

_DURATION: Final = re.compile(r"[0-9]{1,5}[smh]")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `spec.alerts.rules`; None keeps the alert's default.

    `threshold` is a number as text, in the alert's unit.
    """

    enabled: bool = True
    threshold: str | None = None
    for_seconds: int | None = None
    severity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Additional:
    """One entry of `spec.alerts.additional`."""

    name: str
    expr: str
    for_seconds: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def rules(spec: Mapping[str, Any]) -> dict[str, Rule]:
    """`spec.alerts.rules` by the alert's key.

    Raises:
        errors.InvalidPolicy, KeyError, TypeError, AttributeError: it is not what the schema admits.
    """
    return {key: _rule(entry) for key, entry in spec.get("rules", {}).items()}


def additional(spec: Mapping[str, Any]) -> tuple[Additional, ...]:
    """`spec.alerts.additional`.

    Raises:
        errors.InvalidPolicy, KeyError, TypeError, AttributeError: it is not what the schema admits.
    """
    return tuple(
        Additional(
            name=entry["name"],
            expr=entry["expr"],
            for_seconds=seconds(entry.get("for", "0s")),
            labels=dict(entry.get("labels", {})),
            annotations=dict(entry.get("annotations", {})),
        )
        for entry in spec.get("additional", [])
    )


def seconds(duration: str) -> int:
    """The seconds of a duration as the schema admits it: digits, then `s`, `m` or `h`.

    Raises:
        errors.InvalidPolicy: it has another form.
    """
    if not _DURATION.fullmatch(duration):
        message = (
            f"{duration!r} is not a duration; write whole seconds, minutes or hours: 90s, 5m, 1h"
        )
        raise errors.InvalidPolicy("spec.alerts: for", message)
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def duration(seconds: int) -> str:
    """Seconds as Prometheus writes a duration, in the largest unit that divides them."""
    for unit in ("h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def _rule(entry: Mapping[str, Any]) -> Rule:
    threshold, for_ = entry.get("threshold"), entry.get("for")
    return Rule(
        enabled=entry.get("enabled", True),
        threshold=None if threshold is None else str(threshold),
        for_seconds=None if for_ is None else seconds(for_),
        severity=entry.get("severity"),
    )
