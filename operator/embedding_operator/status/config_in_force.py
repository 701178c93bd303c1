"""Conditions about running sidecars: the policy in force, rejected keys, failing providers. Pure.

Only reports of sidecars count; each sidecar without a report is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import names
from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict, few

CONDITION: Final = "ConfigInForce"
KEY_REFUSED: Final = "KeyRefused"
REACHED: Final = "ProvidersReached"
NOT_TOLD: Final = "NotTold"
"""The reason where sidecars are of a version that does not report it."""
PROBLEMS_SHOWN: Final = 10
NOT_ASKED: Final = "NotAsked"
"""The reason before the first request to a sidecar."""
NO_ANSWER: Final = "SidecarsSilent"
OUTDATED: Final = "SidecarsOutdated"
UNPROVEN: Final = "SidecarsUnproven"
UNPROVEN_OLDER: Final = "InForceUnproven"
"""The reason where sidecars of an older release report the newest policy without a proof."""
_CAUSES: Final = (
    (
        "identity_missing",
        (
            "the pods lack the token of their ServiceAccount: restart pods that are older than the "
            "policy's azure.tenantID"
        ),
    ),
    ("identity_unreachable", "azure.authority gives no answer that can be used"),
    (
        "identity_denied",
        (
            "the provider refuses the access token: give the identity of azure.clientID the role "
            "Cognitive Services OpenAI User"
        ),
    ),
    ("identity_refused_aadsts90002", "Entra does not know azure.tenantID"),
    ("identity_refused_aadsts900023", "Entra does not know azure.tenantID"),
    ("identity_refused_aadsts700016", "Entra does not know azure.clientID in azure.tenantID"),
    (
        "identity_refused_aadsts700024",
        "Entra finds the ServiceAccount token outside its time: the clock of a node may be wrong",
    ),
    (
        "identity_refused_aadsts70021",
        (
            "azure.clientID has no federated credential with this cluster's issuer, audience "
            f"{names.AZURE_AUDIENCE} and the pods' ServiceAccount (system:serviceaccount:NAMESPACE:"
            "NAME) as subject"
        ),
    ),
    ("identity_refused_aadsts70025", "azure.clientID has no federated credential at all"),
    (
        "identity_refused",
        "Entra refuses the ServiceAccount token for azure.tenantID and azure.clientID",
    ),
)
"""Field and cause by the beginning of a word, the longer ones first. Codes: Entra's page
reference-error-codes, and azure-workload-identity's on troubleshooting, seen on 2026-11-30."""
_UNKNOWN: Final = (UNPROVEN, OUTDATED, NO_ANSWER)
"""Reasons for an unknown policy in force, the most important first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Force:
    """The policies in force in covered pods.

    `in_force` counts pods with the newest one, `behind` has a sentence for each pod with another,
    `unknown` a reason for each pod without a report, and `pending` counts pods not asked yet.
    `unproven` names pods with the newest one that are too old to prove it.
    `keys_refused` counts pods by the provider that rejects the newest key there, of `keys_told`
    reporting pods; `failures` counts pods by provider and by the word for its failure, of
    `failures_told` reporting pods.
    """

    in_force: int = 0
    behind: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    unknown: tuple[Problem, ...] = ()
    pending: int = 0
    keys_told: int = 0
    keys_refused: Mapping[str, int] = field(default_factory=dict)
    failures_told: int = 0
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """The number of running sidecars."""
        return self.in_force + len(self.behind) + len(self.unknown) + self.pending


def key_verdict(force: Force, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Condition KeyRefused: a provider rejects the newest key in some pod."""
    if force.keys_refused:
        told = "; ".join(
            f"provider {provider} rejects its newest API key in {pods} of {force.keys_told} pods"
            for provider, pods in sorted(force.keys_refused.items())
        )
        message = (
            f"{told[0].upper()}{told[1:]}. Sidecars that have the previous key use it for up to 10"
            " minutes; store a valid key where apiKey points."
        )
        return Verdict("True", "KeyRefused", message)
    if force.asked == 0:
        return Verdict("False", "NoPods", "No sidecar runs yet.")
    if force.pending:
        return _last_seen(KEY_REFUSED, generation=generation, previous=previous)
    if force.keys_told == 0:
        message = f"None of {force.asked} sidecars reports rejected keys."
        return Verdict("Unknown", "SidecarsSilent", message)
    reports = f"{force.keys_told} of {force.asked} report"
    message = f"No sidecar has had its newest API key rejected ({reports})."
    return Verdict("False", "NotRefused", message)


def reach_verdict(force: Force, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Condition ProvidersReached: all providers answer in all pods that have called them."""
    if force.failures:
        told = "; ".join(
            f"{provider}: {word} in {pods} of {force.failures_told} pods"
            for (provider, word), pods in sorted(force.failures.items())[:PROBLEMS_SHOWN]
        )
        (_, word), _ = max(sorted(force.failures.items()), key=lambda it: it[1])
        # Entra's code is no part of the reason, of which there are few.
        reason = "".join(it.capitalize() for it in word.partition("_aadsts")[0].split("_"))
        causes = "".join(
            f" {word}: {cause}."
            for word in sorted({word for _, word in force.failures})
            if (cause := next((it for start, it in _CAUSES if word.startswith(start)), None))
        )
        return Verdict("False", reason, f"{told}. docs/sidecar.md explains each word.{causes}")
    if force.asked == 0:
        return Verdict("True", "NoPods", "No sidecar runs yet.")
    if force.pending:
        return _last_seen(REACHED, generation=generation, previous=previous)
    if force.failures_told == 0:
        message = f"None of {force.asked} sidecars reports how providers answer."
        return Verdict("Unknown", NOT_TOLD, message)
    reports = f"{force.failures_told} of {force.asked} sidecars report"
    return Verdict("True", "Answering", f"The last call to each provider succeeded ({reports}).")


def verdict(force: Force, *, stale: bool, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Condition ConfigInForce; `stale`: the newest policy became no document."""
    if stale:
        message = "The newest policy is not in force; sidecars keep the last one that was accepted."
        return Verdict("False", "NotAccepted", message)
    asked = force.asked
    if asked == 0:
        return Verdict("True", "NoPods", "No sidecar runs yet.")
    unknown = sorted(force.unknown, key=lambda it: _UNKNOWN.index(it.reason))
    told = few((*force.behind, *(it.message for it in unknown)), most=PROBLEMS_SHOWN)
    if force.behind:
        message = f"{force.in_force} of {asked} sidecars obey the newest policy: {told}."
        return Verdict("False", "SidecarsBehind", message)
    if unknown:
        message = f"{len(unknown)} of {asked} sidecars do not prove which policy they obey: {told}."
        return Verdict("Unknown", unknown[0].reason, message)
    if force.pending:
        return _last_seen(CONDITION, generation=generation, previous=previous)
    return _in_force(force)


def _in_force(force: Force) -> Verdict:
    if force.unproven:
        message = (
            f"All {force.asked} sidecars report the newest policy. {len(force.unproven)} are of an"
            " older release, which cannot prove it and does not report its keys; restart these"
            f" pods: {few(force.unproven, most=PROBLEMS_SHOWN)}."
        )
        return Verdict("True", UNPROVEN_OLDER, message)
    message = f"All {force.asked} sidecars report the newest policy and the newest keys."
    return Verdict("True", "InForce", message)


def _last_seen(kind: str, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """The condition as it was for this generation, until sidecars are asked."""
    for before in previous.get("conditions", []):
        if before["type"] == kind and before.get("observedGeneration") == generation:
            return Verdict(before["status"], before["reason"], before["message"])
    return Verdict("Unknown", NOT_ASKED, "The operator has not asked the sidecars yet.")
