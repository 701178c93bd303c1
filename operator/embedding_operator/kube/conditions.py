"""Conditions of a status, in the shape of KEP-1623, and what of a status is to be written: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from embedding_operator.errors import Problem

AMISS: Final = frozenset({"KeyRefused", "Overlap", "ModelMissing", "Warned"})
"""The conditions that are True where something is wrong; all others are True where all is well."""


class Verdict(NamedTuple):
    """Status, reason and message of the condition."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Condition:
    """What is said of one thing."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def is_bad(self) -> bool:
        """Whether it says that something is wrong."""
        return self.status == ("True" if self.type in AMISS else "False")


def from_problem(kind: str, problem: Problem | None, reason: str, message: str) -> Condition:
    """A condition that is False for a problem, and else True with this reason and message."""
    if problem is None:
        return Condition(kind, "True", reason, message)
    return Condition(kind, "False", problem.reason, problem.message)


def stamped(
    condition: Condition, *, generation: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The entry of a status, with the time of before where the condition has not flipped."""
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
    """What is worth an event: conditions whose status or reason is new, but for a good start.

    `no_news` are reasons of conditions about what nobody has looked at yet.
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
