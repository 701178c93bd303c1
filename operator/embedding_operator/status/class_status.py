"""Compute the status of a ClusterEmbeddingProvider from facts: pure, and equal for equal facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube import conditions
from embedding_operator.kube.conditions import Condition, from_problem

READY: Final = "Ready"
KEY: Final = "KeyAvailable"
NOT_READ: Final = "NotReadYet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All observations of one reconcile.

    `key` is the problem of the first value that cannot be had; `pending` is a path of Vault that is
    not polled yet. `needs_key` is False for a server without a key. `policies` and `namespaces`
    count those that may use the class, `refused` the policies that may not.
    """

    refused_for: Problem | None = None
    key: Problem | None = None
    pending: str | None = None
    needs_key: bool = True
    policies: int = 0
    namespaces: int = 0
    refused: int = 0


def build(
    facts: Facts, *, generation: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The status for these facts; unflipped conditions keep the times of `previous`."""
    found = [
        from_problem(
            "Accepted", facts.refused_for, "Accepted", "The provider is valid and can be used."
        ),
        _key(facts, generation=generation, previous=previous),
    ]
    return {
        "observedGeneration": generation,
        "conditions": [
            conditions.stamped(it, generation=generation, previous=previous, now=now)
            for it in (_ready(found), *found)
        ],
        "policies": facts.policies,
        "namespaces": facts.namespaces,
        "refused": facts.refused,
    }


def _key(facts: Facts, *, generation: int, previous: Mapping[str, Any]) -> Condition:
    if facts.refused_for is not None:
        return Condition(KEY, "Unknown", "NotAccepted", "Not checked: the provider is not valid.")
    if facts.key is not None:
        return Condition(KEY, "False", facts.key.reason, f"{facts.key.message}.")
    if facts.pending is not None:
        for before in previous.get("conditions", []):
            if before["type"] == KEY and before.get("observedGeneration") == generation:
                return Condition(KEY, before["status"], before["reason"], before["message"])
        return Condition(KEY, "Unknown", NOT_READ, f"Not read from Vault yet: {facts.pending}.")
    if not facts.needs_key:
        return Condition(KEY, "True", "NoKeyNeeded", "The provider is called without an API key.")
    return Condition(KEY, "True", "Available", "The values that the provider names can be read.")


def _ready(found: list[Condition]) -> Condition:
    for status in ("False", "Unknown"):
        for it in found:
            if it.status == status:
                return Condition(READY, status, it.reason, it.message)
    return Condition(READY, "True", READY, "Policies of the selected namespaces can use it.")
