"""What the sidecars of a policy's pods say they obey, and the nudge for those that are behind."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from embedding_operator import sidecars, status

QUOTA_SECONDS: Final = 15.0
"""The live quota is asked at most this often. Half of the chart's resync: a look that comes a
moment early, or after one that an event brought, would otherwise leave it for a whole period."""
QUOTA_ASKED: Final = 3
"""How many sidecars are asked for it, if the first cannot tell."""
NUDGE_SECONDS: Final = 5.0
"""A pod that is still behind is nudged again after this long, and twice as long each time."""
LAST_NUDGE_SECONDS: Final = 120.0
PATIENCE: Final = 5
"""A wait of so many seconds is looked at once a second, a longer one at each fifth of it."""
LAST_LOOK_SECONDS: Final = 30.0
_THREADS: Final = 16

Object = Mapping[str, Any]
Policy = tuple[str, str]
"""Namespace and name."""


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
    token: str = field(repr=False)

    @property
    def content(self) -> str:
        """Both fingerprints in one word."""
        return f"{self.document}.{self.secrets}"


@dataclass(frozen=True, slots=True)
class _Nudged:
    at: float
    times: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    content: str
    since: float
    nudged: Mapping[str, _Nudged]
    """By the uid of the pod."""


class Observer:
    """Asks the sidecars of all policies; safe for one thread a policy."""

    def __init__(
        self, *, asks: Asks, nudges: Nudges, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._asks = asks
        self._nudges = nudges
        self._clock = clock
        # A sidecar that cannot be reached takes its whole time-out, and must not hold up others.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="asking")
        self._waiting: dict[Policy, _Waiting] = {}
        self._answering: dict[Policy, tuple[str, ...]] = {}
        self._quota_asked: dict[Policy, tuple[float, status.LiveQuota]] = {}

    def force(self, policy: Policy, pods: Sequence[Object], wanted: Wanted) -> status.Force:
        """What the sidecars of these pods, which have addresses, say they obey."""
        addresses = [str(pod["status"]["podIP"]) for pod in pods]
        answers = list(self._threads.map(lambda it: self._ask(it, wanted), addresses))
        self._answering[policy] = tuple(
            address
            for address, answer in zip(addresses, answers, strict=True)
            if answer is not None
        )
        late = [
            (pod, answer)
            for pod, answer in zip(pods, answers, strict=True)
            if answer is None
            or (answer.document, answer.secrets) != (wanted.document, wanted.secrets)
        ]
        self._wait_for(policy, [pod for pod, _ in late], wanted)
        behind = tuple(
            f"{pod['metadata']['name']} {answer.rejected or _difference(answer, wanted)}"
            for pod, answer in late
            if answer is not None
        )
        told = [it.keys_refused for it in answers if it and it.keys_refused is not None]
        return status.Force(
            in_force=len(pods) - len(late),
            behind=behind,
            unknown=len(late) - len(behind),
            keys_told=len(told),
            keys_refused=Counter(name for refused in told for name in sorted(refused)),
        )

    def look_again_seconds(self, policy: Policy) -> float | None:
        """When to ask those that are late once more; None where nobody is."""
        waiting = self._waiting.get(policy)
        if waiting is None:
            return None
        return min(max(1.0, (self._clock() - waiting.since) / PATIENCE), LAST_LOOK_SECONDS)

    def quota(self, policy: Policy, *, token: str) -> status.LiveQuota | None:
        """The live quota, asked of those that answered last; one asked just now is given again."""
        asked, known = self._quota_asked.get(policy, (float("-inf"), None))
        if known is not None and self._clock() - asked < QUOTA_SECONDS:
            return known
        for address in self._answering.get(policy, ())[:QUOTA_ASKED]:
            answer = self._asks.quota(address, token=token)
            if answer is not None:
                self._quota_asked[policy] = (self._clock(), answer)
                return answer
        return known

    def forget(self, policy: Policy) -> None:
        """A policy has gone."""
        self._waiting.pop(policy, None)
        self._answering.pop(policy, None)
        self._quota_asked.pop(policy, None)

    def _ask(self, address: str, wanted: Wanted) -> sidecars.InForce | None:
        return self._asks.in_force(address, token=wanted.token)

    def _wait_for(self, policy: Policy, pods: Sequence[Object], wanted: Wanted) -> None:
        before = self._waiting.pop(policy, None)
        if not pods:
            return
        if before is None or before.content != wanted.content:
            before = _Waiting(wanted.content, self._clock(), {})
        nudged = {
            pod["metadata"]["uid"]: self._nudge(
                pod, wanted, before=before.nudged.get(pod["metadata"]["uid"])
            )
            for pod in pods
        }
        self._waiting[policy] = _Waiting(before.content, before.since, nudged)

    def _nudge(self, pod: Object, wanted: Wanted, *, before: _Nudged | None) -> _Nudged:
        now, times = self._clock(), 0
        if before is not None:
            wait_seconds = min(NUDGE_SECONDS * 2.0**before.times, LAST_NUDGE_SECONDS)
            if now - before.at < wait_seconds:
                return before
            times = min(before.times + 1, 16)
        metadata = pod["metadata"]
        # The time makes a second nudge for one content a change too.
        value = f"{wanted.content}.{time.time_ns()}"
        self._nudges.nudge(metadata["namespace"], metadata["name"], value)
        return _Nudged(now, times)


def _difference(answer: sidecars.InForce, wanted: Wanted) -> str:
    if not answer.document:
        return "has no document yet"
    if answer.document != wanted.document:
        return f"obeys document {answer.document}"
    return "holds older keys"
