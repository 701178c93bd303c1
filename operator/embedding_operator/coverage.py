"""Which of a namespace's pods a policy has: pure, and decided as the webhook decides."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from embedding_contract import names
from embedding_operator import injector, selection, status

_LIVE_PHASES: Final = frozenset({"Pending", "Running"})
# Reasons for which a selected pod is not counted as missing: it asked for none, or cannot.
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
) -> status.Coverage:
    """How many of a policy's pods carry its sidecar, decided as the webhook decides."""
    own = next((candidate for candidate in among if candidate.name == name), None)
    if own is None:
        return status.Coverage()  # deleted a moment ago
    covered = carrying(name, pods)
    missing: list[str] = []
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
        elif decision.candidate.name == name:
            missing.append(str(pod["metadata"]["name"]))
        else:
            lost_to = decision.candidate.name
    return status.Coverage(
        matching=len(covered) + len(missing),
        covered=len(covered),
        outdated=sum(injector.is_outdated(it, sidecar=sidecar, candidate=own) for it in covered),
        bypassing=sum(
            injector.is_bypassing(it, environment_since=environment_since) for it in covered
        ),
        missing=tuple(sorted(missing)),
        lost_to=lost_to,
    )


def selects_any(candidates: Iterable[selection.Candidate], pods: Sequence[Object]) -> bool:
    """Whether one of these policies selects one of these pods."""
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
    """Whether a pod has neither ended nor been told to."""
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return phase in _LIVE_PHASES and not pod["metadata"].get("deletionTimestamp")


def is_starting(pod: Object) -> bool:
    """Whether a pod's sidecar comes up for the first time, so that there is nobody to ask yet."""
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
