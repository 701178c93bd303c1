"""What a status says of running sidecars: what they obey, and which keys are refused there. Pure.

Nothing is said of a sidecar that has not said it, and each of which nothing is known is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict

CONDITION: Final = "ConfigInForce"
KEY_REFUSED: Final = "KeyRefused"
REACHED: Final = "ProvidersReached"
NOT_TOLD: Final = "NotTold"
"""The reason where sidecars are of a version that does not tell."""
PROBLEMS_SHOWN: Final = 10
NOT_ASKED: Final = "NotAsked"
"""The reason while nobody has been asked yet."""
SILENT: Final = "SidecarsSilent"
OUTDATED: Final = "SidecarsOutdated"
UNPROVEN: Final = "SidecarsUnproven"
_UNKNOWN: Final = (UNPROVEN, OUTDATED, SILENT)
"""Why it is not known what a sidecar obeys: what somebody must hear of comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Force:
    """What covered pods obey. `behind` are sentences about those that obey something else.

    `unknown` are those of which that is not known, each with the reason; `pending` counts those
    that have not been asked yet. `keys_refused` counts pods by the provider that refuses the newest
    key there, of `keys_told` pods that told; `failures` pods by provider and by the word for why it
    has not answered them since it failed, of `failures_told`.
    """

    in_force: int = 0
    behind: tuple[str, ...] = ()
    unknown: tuple[Problem, ...] = ()
    pending: int = 0
    keys_told: int = 0
    keys_refused: Mapping[str, int] = field(default_factory=dict)
    failures_told: int = 0
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many sidecars run."""
        return self.in_force + len(self.behind) + len(self.unknown) + self.pending


def key_verdict(force: Force, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Whether a provider refuses the newest key in any pod."""
    if force.keys_refused:
        told = "; ".join(
            f"{provider} refuses its newest key in {pods} of {force.keys_told} pods"
            for provider, pods in sorted(force.keys_refused.items())
        )
        message = (
            f"{told}. For 10 minutes sidecars that had the previous key go on with it; put a good"
            " one where apiKey points."
        )
        return Verdict("True", "KeyRefused", message)
    if force.asked == 0:
        return Verdict("False", "NoPods", "No sidecar runs yet.")
    if force.pending:
        return _last_seen(KEY_REFUSED, generation=generation, previous=previous)
    if force.keys_told == 0:
        message = f"None of {force.asked} sidecars tells which keys are refused."
        return Verdict("Unknown", "SidecarsSilent", message)
    message = f"{force.keys_told} of {force.asked} sidecars have met no refusal of a newest key."
    return Verdict("False", "NotRefused", message)


def reach_verdict(force: Force, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Whether all providers answer in all pods that have called them."""
    if force.failures:
        told = "; ".join(
            f"{provider}: {word} in {pods} of {force.failures_told} pods"
            for (provider, word), pods in sorted(force.failures.items())[:PROBLEMS_SHOWN]
        )
        (_, word), _ = max(sorted(force.failures.items()), key=lambda it: it[1])
        reason = "".join(it.capitalize() for it in word.split("_"))
        return Verdict("False", reason, f"{told}. docs/sidecar.md says what each word means.")
    if force.asked == 0:
        return Verdict("True", "NoPods", "No sidecar runs yet.")
    if force.pending:
        return _last_seen(REACHED, generation=generation, previous=previous)
    if force.failures_told == 0:
        message = f"None of {force.asked} sidecars tells how providers answer."
        return Verdict("Unknown", NOT_TOLD, message)
    message = f"{force.failures_told} of {force.asked} sidecars got an answer of each provider that"
    return Verdict("True", "Answering", f"{message} they last called.")


def verdict(force: Force, *, stale: bool, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Whether every sidecar obeys the newest policy; `stale` if that became no document."""
    if stale:
        message = "The newest policy is not in force; sidecars keep the last one that was accepted."
        return Verdict("False", "NotAccepted", message)
    asked = force.asked
    if asked == 0:
        return Verdict("True", "NoPods", "No sidecar runs yet.")
    unknown = sorted(force.unknown, key=lambda it: _UNKNOWN.index(it.reason))
    told = _few((*force.behind, *(it.message for it in unknown)))
    if force.behind:
        message = f"{force.in_force} of {asked} sidecars obey the newest policy: {told}."
        return Verdict("False", "SidecarsBehind", message)
    if unknown:
        message = f"What {len(unknown)} of {asked} sidecars obey is not known: {told}."
        return Verdict("Unknown", unknown[0].reason, message)
    if force.pending:
        return _last_seen(CONDITION, generation=generation, previous=previous)
    message = f"All {asked} sidecars say they obey the newest policy with the newest keys."
    return Verdict("True", "InForce", message)


def _last_seen(kind: str, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """What a condition said of this generation, while sidecars have not been asked yet."""
    for before in previous.get("conditions", []):
        if before["type"] == kind and before.get("observedGeneration") == generation:
            return Verdict(before["status"], before["reason"], before["message"])
    return Verdict("Unknown", NOT_ASKED, "The sidecars are being asked.")


def _few(told: Sequence[str]) -> str:
    more = len(told) - PROBLEMS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(told[:PROBLEMS_SHOWN])}{tail}"
