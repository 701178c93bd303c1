"""Conditions of a status in the form of KEP-1623, and patches of a status: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from embedding_operator.errors import Problem

AMISS: Final = frozenset(
    {
        *("KeyRefused", "Overlap", "ModelMissing", "Warned"),
        *("ModelRetires", "QuotaObserved"),
    }
)
"""The conditions for which True is bad; for all others False is."""


class Verdict(NamedTuple):
    """Status, reason and message of a condition."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One fact about an object."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def is_bad(self) -> bool:
        """True if it reports a fault."""
        return self.status == ("True" if self.type in AMISS else "False")


def from_problem(kind: str, problem: Problem | None, reason: str, message: str) -> Condition:
    """False for a problem, else True with this reason and message."""
    if problem is None:
        return Condition(kind, "True", reason, message)
    return Condition(kind, "False", problem.reason, problem.message)


def few(told: Sequence[str], *, most: int = 5) -> str:
    """The first ones, and how many more there are."""
    more = len(told) - most
    return f"{'; '.join(told[:most])}{f'; and {more} more' if more > 0 else ''}"


def stamped(
    condition: Condition, *, generation: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The entry of a status; keeps the transition time unless the condition has flipped."""
    since = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for before in previous.get("conditions", []):
        if before["type"] == condition.type and before["status"] == condition.status:
            since = before["lastTransitionTime"]
    return {
        "type": condition.type,
        "status": condition.status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": condition.reason,
        "message": condition.message,
    }


def merge_patch(previous: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns one into the other; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in previous if key not in wanted}
    for key, value in wanted.items():
        before = previous.get(key)
        if before == value:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            patch[key] = merge_patch(before, value)
        else:
            patch[key] = value
    return patch


def changes(
    previous: Mapping[str, Any], wanted: Mapping[str, Any], *, no_news: frozenset[str]
) -> list[Condition]:
    """The conditions to record as events: status or reason is new, and it is no first success.

    `no_news` are reasons that mean "not checked yet".
    """
    before = {it.type: (it.status, it.reason) for it in _told(previous, no_news)}
    return [
        it
        for it in _told(wanted, no_news)
        if before.get(it.type) != (it.status, it.reason)
        and (it.type in before or it.is_bad or it.status == "Unknown")
    ]


def _told(status: Mapping[str, Any], no_news: frozenset[str]) -> list[Condition]:
    return [
        Condition(*(entry[key] for key in ("type", "status", "reason", "message")))
        for entry in status.get("conditions", [])
        if entry["reason"] not in no_news
    ]
