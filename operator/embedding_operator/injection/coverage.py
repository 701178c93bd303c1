"""Count the pods that a policy covers, by the rules of the webhook: pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator.injection import bypasses, injector, namespace_bounds, selection
from embedding_operator.status import policy_status

_LIVE_PHASES: Final = frozenset({"Pending", "Running"})
# Reasons for which a pod is not counted as missing: it opted out, or cannot have one.
_NOT_WANTED: Final = frozenset({"OptedOut", "NoPolicyMatches", "PolicyNotFound", "MirrorPod"})
_STILL_COMING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})

Object = Mapping[str, Any]


def of(
    *,
    name: str,
    pods: Sequence[Object],
    namespace_labels: Mapping[str, str],
    among: Sequence[selection.Candidate],
    server_version: tuple[int, int],
    sidecar: injector.Sidecar,
    environment_since: str | None,
    covering_since: str | None = None,
) -> policy_status.Coverage:
    """The coverage of the policy `name` among `pods`.

    `covering_since` is the time since when each new pod should get a sidecar; None if it need not.
    """
    own = next((candidate for candidate in among if candidate.name == name), None)
    if own is None:
        return policy_status.Coverage()  # just deleted
    covered = carrying(name, pods)
    missing: list[str] = []
    missed: list[str] = []
    lost_to: str | None = None
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if not is_live(pod) or not selection.selects(own, labels):
            continue
        if selection.carries_sidecar(pod):
            holder = labels[names.LABEL_INJECTED]
            lost_to = lost_to if holder == name else holder
            continue
        decision = selection.decide(
            pod, namespace_labels=namespace_labels, among=among, server_version=server_version
        )
        if isinstance(decision, selection.Skipped):
            if decision.reason not in _NOT_WANTED:
                missing.append(f"{pod['metadata']['name']} ({decision.reason})")
        elif decision.candidate.name == name and (reason := _noted(pod)) is not None:
            missing.append(f"{pod['metadata']['name']} ({reason})")
        elif decision.candidate.name == name:
            missing.append(str(pod["metadata"]["name"]))
            if _is_later(pod["metadata"].get("creationTimestamp"), than=covering_since):
                missed.append(missing[-1])
        else:
            lost_to = decision.candidate.name
    expected = injector.sidecar_hash(sidecar, own)
    early = [it for it in covered if injector.is_bypassing(it, environment_since=environment_since)]
    detours = {
        str(pod["metadata"]["name"]): found for pod in covered if (found := bypasses.detours(pod))
    }
    return policy_status.Coverage(
        matching=len(covered) + len(missing),
        covered=len(covered),
        outdated=sum(
            injector.is_outdated(it, expected, sidecar=sidecar, candidate=own) for it in covered
        ),
        bypassing=len({str(it["metadata"]["name"]) for it in early} | detours.keys()),
        detours=tuple(f"{name}: {', '.join(found)}" for name, found in sorted(detours.items())),
        missing=tuple(sorted(missing)),
        missed=tuple(sorted(missed)),
        lost_to=lost_to,
    )


def _noted(pod: Object) -> str | None:
    """The reason, by its annotation, for which injection left a pod without a sidecar."""
    found = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_SIDECAR_SKIPPED)
    return found if found in namespace_bounds.REASONS else None


def _is_later(created_at: str | None, *, than: str | None) -> bool:
    if created_at is None or than is None:
        return False
    return datetime.fromisoformat(created_at) > datetime.fromisoformat(than)


def selects_any(candidates: Iterable[selection.Candidate], pods: Sequence[Object]) -> bool:
    """True if one of these policies selects one of these pods."""
    return any(
        selection.selects(it, pod["metadata"].get("labels") or {})
        for it in candidates
        for pod in pods
    )


def carrying(name: str, pods: Sequence[Object]) -> list[Object]:
    """The pods that carry this policy's sidecar and have not ended."""
    return [
        pod
        for pod in pods
        if is_live(pod)
        and selection.carries_sidecar(pod)
        and pod["metadata"]["labels"][names.LABEL_INJECTED] == name
    ]


def is_live(pod: Object) -> bool:
    """True if a pod has not ended and is not being deleted."""
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return phase in _LIVE_PHASES and not pod["metadata"].get("deletionTimestamp")


def is_starting(pod: Object) -> bool:
    """True if a pod's sidecar starts for the first time and cannot be asked yet."""
    seen = pod.get("status") or {}
    if not seen.get("podIP"):
        return True
    for container in seen.get("initContainerStatuses") or ():
        if container["name"] == names.CONTAINER and not container.get("restartCount"):
            waiting = (container.get("state") or {}).get("waiting")
            if waiting is not None:
                return waiting.get("reason", "") in _STILL_COMING
            return not container.get("started")
    return False
