"""Nudges: a changed annotation makes kubelet sync a pod's volumes at once.

Kubelet's own period is a minute. Threads of their own send nudges, as each is a request to the API
server. Their number is bounded, so that a silent pod cannot cost requests for ever.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from embedding_operator.queues import workqueue
from embedding_operator.sidecars.schedule import Item
from embedding_operator.sidecars.targets import Pod

THREADS: Final = 4
NAMESPACE_THREADS: Final = 2
FIRST_WAIT_SECONDS: Final = 5.0
"""The time until the second nudge; it doubles each time."""
MOST_OF_A_CONTENT: Final = 6
LEAST_APART_SECONDS: Final = 1.0
"""The least time between two nudges of a pod."""


class _Key(NamedTuple):
    namespace: str
    pod: str
    item: Item
    """Pods of an index have a sidecar, too, which is nudged apart."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}"


@dataclass(slots=True)
class _Late:
    content: str
    is_behind: bool = True
    times: int = 0
    nudged_at: float = float("-inf")


class Nudger:
    """Nudges pods until they have in force what they should; safe to use from any thread.

    `nudged` gets each pod after the first nudge for a content, also after one that failed.
    """

    def __init__(
        self,
        *,
        nudge: Callable[[str, str, str], None],
        nudged: Callable[[Item], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nudge = nudge
        self._nudged = nudged
        self._clock = clock
        self._lock = threading.Lock()
        self._late: dict[_Key, _Late] = {}
        self._queue: workqueue.WorkQueue[_Key] = workqueue.WorkQueue(
            most_of_one=NAMESPACE_THREADS, clock=clock
        )

    def start(self) -> list[threading.Thread]:
        """Start the threads."""
        return workqueue.work(self._queue, self.nudge, workers=THREADS, name="nudge")

    def close(self) -> None:
        """End the threads."""
        self._queue.close()

    def behind(self, item: Item, pod: Pod, content: str) -> bool:
        """A pod does not have this content in force; True while its first nudge is to come."""
        key = _Key(pod.namespace, pod.name, item)
        with self._lock:
            late = self._late.get(key)
            if late is not None and late.content == content and late.is_behind:
                return late.times == 0
            if late is None or late.content != content:
                nudged_at = late.nudged_at if late is not None else float("-inf")
                late = self._late[key] = _Late(content, nudged_at=nudged_at)
            late.is_behind = True
            is_first = late.times == 0
            wait_seconds = late.nudged_at + LEAST_APART_SECONDS - self._clock()
        self._queue.add(key, after_seconds=max(0.0, wait_seconds))
        return is_first

    def in_force(self, item: Item, pod: Pod) -> None:
        """A pod has the right content in force."""
        with self._lock:
            late = self._late.get(_Key(pod.namespace, pod.name, item))
            if late is not None:
                late.is_behind = False  # its nudges still count

    def forget(self, item: Item, pod: Pod) -> None:
        """A pod has gone."""
        with self._lock:
            self._late.pop(_Key(pod.namespace, pod.name, item), None)

    def nudge(self, key: _Key) -> float | None:
        """Nudge a pod if it is still behind; seconds until the next nudge."""
        with self._lock:
            late = self._late.get(key)
            if late is None or not late.is_behind or late.times >= MOST_OF_A_CONTENT:
                return None
            late.times += 1
            late.nudged_at = self._clock()
            content, times = late.content, late.times
        try:
            # The time makes the second nudge for one content a change.
            self._nudge(key.namespace, key.pod, f"{content}.{time.time_ns()}")
        finally:
            if times == 1:
                self._nudged(key.item)
        return FIRST_WAIT_SECONDS * 2.0 ** (times - 1)
