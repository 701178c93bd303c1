"""One look at the pods of a policy: which have the sidecar, and what each sidecar obeys."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from embedding_contract import names
from embedding_operator import injector, selection, sidecars, status

QUOTA_SECONDS: Final = 30.0
"""The live quota reaches a status at most this often."""
NUDGE_SECONDS: Final = 5.0
"""A pod that is still behind is nudged again after this long."""
_LIVE_PHASES: Final = frozenset({"Pending", "Running"})
# Reasons for which a selected pod is not counted as missing: it asked for none, or cannot.
_NOT_WANTED: Final = frozenset({"OptedOut", "NoPolicyMatches", "PolicyNotFound", "MirrorPod"})

Object = Mapping[str, Any]


class Asks(Protocol):
    """Asks running sidecars."""

    def in_force(self, address: str, *, token: str) -> sidecars.InForce | None:
        """What a sidecar obeys; None where it cannot be asked."""
        ...

    def quota(self, address: str, *, token: str) -> status.LiveQuota | None:
        """The live quota; None where it cannot be asked."""
        ...


class Nudges(Protocol):
    """Makes kubelet sync a pod's volumes."""

    def nudge(self, namespace: str, pod: str, value: str) -> None:
        """Change an annotation of the pod."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What every sidecar of a policy should report, and the token to ask with."""

    document: str
    secrets: str
    token: str


def coverage(
    *,
    name: str,
    pods: Sequence[Object],
    namespace_labels: Mapping[str, str],
    among: Sequence[selection.Candidate],
    server_version: tuple[int, int],
    sidecar: injector.Sidecar,
    environment_created_at: str | None,
) -> status.Coverage:
    """How many of a policy's pods carry its sidecar, decided as the webhook decides."""
    own = next(candidate for candidate in among if candidate.name == name)
    covered, outdated, bypassing = 0, 0, 0
    missing: list[str] = []
    lost_to: str | None = None
    for pod in pods:
        if not _is_live(pod):
            continue
        labels = pod["metadata"].get("labels") or {}
        if selection.carries_sidecar(pod):
            if labels[names.LABEL_INJECTED] == name:
                covered += 1
                outdated += injector.is_outdated(pod, sidecar=sidecar, candidate=own)
                bypassing += injector.is_bypassing(
                    pod, environment_created_at=environment_created_at
                )
                continue
            if selection.matches(own.pod_selector, labels):
                lost_to = labels[names.LABEL_INJECTED]
            continue
        if not selection.matches(own.pod_selector, labels):
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
        matching=covered + len(missing),
        covered=covered,
        outdated=outdated,
        bypassing=bypassing,
        missing=tuple(sorted(missing)),
        lost_to=lost_to,
    )


def covered_pods(name: str, pods: Sequence[Object]) -> list[Object]:
    """The pods that carry this policy's sidecar and have not ended."""
    return [
        pod
        for pod in pods
        if _is_live(pod)
        and selection.carries_sidecar(pod)
        and pod["metadata"]["labels"][names.LABEL_INJECTED] == name
    ]


class Observer:
    """Asks sidecars, nudges those that are behind, and remembers when it did."""

    def __init__(
        self, *, asks: Asks, nudges: Nudges, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._asks = asks
        self._nudges = nudges
        self._clock = clock
        self._nudged: dict[str, tuple[str, float]] = {}
        self._quota_asked: dict[tuple[str, str], tuple[float, status.LiveQuota]] = {}

    def force(self, pods: Sequence[Object], wanted: Wanted) -> status.Force:
        """What the sidecars of these pods say they obey."""
        in_force, unknown = 0, 0
        behind: list[str] = []
        for pod in pods:
            name = str(pod["metadata"]["name"])
            address = (pod.get("status") or {}).get("podIP")
            answer = self._asks.in_force(address, token=wanted.token) if address else None
            if answer is None:
                unknown += 1
                self._nudge(pod, wanted)
            elif (answer.document, answer.secrets) == (wanted.document, wanted.secrets):
                in_force += 1
                self._nudged.pop(pod["metadata"]["uid"], None)
            else:
                what = answer.rejected or _difference(answer, wanted)
                behind.append(f"{name} {what}")
                self._nudge(pod, wanted)
        return status.Force(in_force=in_force, behind=tuple(behind), unknown=unknown)

    def quota(
        self, policy: tuple[str, str], pods: Sequence[Object], *, token: str
    ) -> status.LiveQuota | None:
        """The live quota, asked of one sidecar at most every 30 s."""
        asked, known = self._quota_asked.get(policy, (float("-inf"), None))
        if known is not None and self._clock() - asked < QUOTA_SECONDS:
            return known
        for pod in pods:
            address = (pod.get("status") or {}).get("podIP")
            answer = self._asks.quota(address, token=token) if address else None
            if answer is not None:
                self._quota_asked[policy] = (self._clock(), answer)
                return answer
        return known

    def forget(self, policy: tuple[str, str]) -> None:
        """A policy has gone."""
        self._quota_asked.pop(policy, None)

    def _nudge(self, pod: Object, wanted: Wanted) -> None:
        metadata = pod["metadata"]
        value = f"{wanted.document}.{wanted.secrets}"
        before, since = self._nudged.get(metadata["uid"], ("", float("-inf")))
        if before == value and self._clock() - since < NUDGE_SECONDS:
            return
        self._nudged[metadata["uid"]] = (value, self._clock())
        # The time makes a second nudge for one content a change too.
        self._nudges.nudge(metadata["namespace"], metadata["name"], f"{value}.{time.time_ns()}")


def _is_live(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return phase in _LIVE_PHASES and not pod["metadata"].get("deletionTimestamp")


def _difference(answer: sidecars.InForce, wanted: Wanted) -> str:
    if not answer.document:
        return "has no document yet"
    if answer.document != wanted.document:
        return f"obeys document {answer.document}"
    return "holds older keys"
