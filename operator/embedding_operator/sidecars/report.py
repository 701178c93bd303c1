"""Turn the answers of a policy's pods into facts for its status: pure."""

from collections import Counter
from collections.abc import Sequence

from embedding_contract import formats
from embedding_operator import errors
from embedding_operator.sidecars.pages import InForce
from embedding_operator.sidecars.targets import Pod, Wanted
from embedding_operator.status import config_in_force

Outcome = InForce | errors.Problem | None
"""The report of a sidecar, or a problem; None before the first request."""


def is_late(outcome: Outcome, wanted: Wanted) -> bool:
    """True unless the sidecar reports the wanted fingerprints."""
    return (
        not isinstance(outcome, InForce)
        or outcome.document != wanted.document
        or outcome.secrets not in {None, wanted.secrets}
    )


def force(seen: Sequence[tuple[Pod, Outcome]], wanted: Wanted) -> config_in_force.Force:
    """The facts about the sidecars of these pods."""
    told = [
        it.keys_refused for _, it in seen if isinstance(it, InForce) and it.keys_refused is not None
    ]
    failing = [it.failures for _, it in seen if isinstance(it, InForce) and it.failures is not None]
    behind = {
        pod.name: lag
        for pod, it in seen
        if isinstance(it, InForce) and (lag := _lag(it, wanted)) is not None
    }
    return config_in_force.Force(
        in_force=sum(isinstance(it, InForce) and pod.name not in behind for pod, it in seen),
        behind=tuple(f"{name} {it}" for name, it in behind.items()),
        unproven=tuple(
            pod.name
            for pod, it in seen
            if isinstance(it, InForce) and it.secrets is None and pod.name not in behind
        ),
        unknown=tuple(
            errors.Problem(it.reason, f"{pod.name} {it.message}")
            for pod, it in seen
            if isinstance(it, errors.Problem)
        ),
        pending=sum(it is None for _, it in seen),
        keys_told=len(told),
        keys_refused=Counter(name for refused in told for name in sorted(refused)),
        failures_told=len(failing),
        failures=Counter(it for failures in failing for it in sorted(failures)),
    )


def _lag(answer: InForce, wanted: Wanted) -> str | None:
    """The part that a sidecar does not obey; None where it obeys all."""
    ignored = formats.unknown(wanted.later, to=answer.format)
    of_older = f"{', '.join(ignored)}, as its release is older: restart the pod" if ignored else ""
    if not is_late(answer, wanted):
        return f"ignores {of_older}" if ignored else None
    told = answer.rejected or _difference(answer, wanted)
    return f"{told} (it does not know {of_older})" if ignored else told


def _difference(answer: InForce, wanted: Wanted) -> str:
    if not answer.document:
        return "has no document yet"
    if answer.document != wanted.document:
        return f"obeys document {answer.document}"
    return "has older keys"
