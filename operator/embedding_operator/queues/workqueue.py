"""A work queue: each key once, never two workers on one key, with delays and backoff.

The rules are those of client-go's workqueue: a key added while a worker has it comes again
afterwards, so that no change is missed and no work is doubled.
"""

import heapq
import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from embedding_operator import errors
from embedding_operator.queues.fair_queue import FairQueue, Namespaced

_LOG = logging.getLogger(__name__)
_FIRST_BACKOFF_SECONDS: Final = 1.0
_LAST_BACKOFF_SECONDS: Final = 60.0
_OUTDATED_KEPT: Final = 64
_ROUND_SHARE: Final = 5
"""One key in so many is taken of a round first, so that changes never keep a round waiting."""

K = TypeVar("K", bound=Namespaced)


class WorkQueue(Generic[K]):
    """Keys that wait for work; safe to use from any thread.

    Due keys are taken round robin over namespaces, and workers have at most `most_of_one` keys of a
    namespace at the same time, so that no namespace delays others. Keys that have changed come
    before those that only time has added: a round, which takes all in turn, or `do` of `work`.

    Before `open`, a queue made with `is_open` false drops what is added: without workers it would
    keep each key for ever.
    """

    def __init__(
        self,
        *,
        most_of_one: int | None = None,
        is_open: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_of_one = most_of_one
        self._is_open = is_open
        self._clock = clock
        self._changed = threading.Condition()
        self._awaited = float("inf")
        """The due time that a worker waits for; the others wait for a change."""
        self._order = itertools.count()
        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._ready: FairQueue[K] = FairQueue()
        self._ready_of_round: FairQueue[K] = FairQueue()
        self._of_round: set[K] = set()
        """Waiting keys that nothing but time has added."""
        self._taken = 0
        self._working: dict[K, float] = {}
        """The start of the work on each key."""
        self._working_for: Counter[str] = Counter()
        self._gathered: set[K] = set()
        """Due keys: ready, or ready once a worker has finished with them."""
        self._failures: dict[K, int] = {}
        self._finished_at: float | None = None
        """The last end of work, or the first call of `take`; None before that."""
        self._closed = False

    def add(self, key: K, *, after_seconds: float = 0, of_round: bool = False) -> None:
        """Add a key; the earliest of its due times counts."""
        with self._changed:
            if not self._is_open:
                return
            if not of_round:
                self._prefer(key)
            elif key not in self._due:
                self._of_round.add(key)
            due = self._clock() + after_seconds
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._heap, (due, next(self._order), key))
                self._drop_outdated()
                if due < self._awaited:
                    self._changed.notify()

    def open(self) -> None:
        """Keep what is added from now on."""
        with self._changed:
            self._is_open = True

    def take(self) -> K | None:
        """Wait for the next due key, and mark it as in work; None once closed."""
        with self._changed:
            if self._finished_at is None:
                self._finished_at = self._clock()
            while not self._closed:
                due = self._gather_due()
                key = self._pop()
                if key is not None:
                    del self._due[key]
                    self._of_round.discard(key)
                    self._gathered.discard(key)
                    self._working[key] = self._clock()
                    self._working_for[key.namespace] += 1
                    self._wake_another()
                    return key
                self._wait(due)
            return None

    def done(self, key: K, *, failed: bool, least_seconds: float = 0) -> None:
        """End the work on a key; a failed one comes again with backoff, after `least_seconds`."""
        with self._changed:
            self._end(key)
            self._wake_another()
            if not failed:
                self._failures.pop(key, None)
                return
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
        ceiling = min(_LAST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
        # Jitter, so that policies which failed together do not come back together.
        backoff_seconds = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self.add(key, after_seconds=max(backoff_seconds, least_seconds))

    def close(self) -> None:
        """Let every worker end after its present key."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def oldest_seconds(self) -> float:
        """The age of the oldest work in progress; 0 without any."""
        with self._changed:
            now = self._clock()
            return now - min(self._working.values(), default=now)

    def stalled_seconds(self) -> float:
        """The time for which keys have waited while no work has ended.

        0 if no key waits, and before the first worker.
        """
        with self._changed:
            if self._finished_at is None:
                return 0.0
            now = self._clock()
            waiting_since = min(self._due.values(), default=now)
            return max(0.0, now - max(waiting_since, self._finished_at))

    def __len__(self) -> int:
        with self._changed:
            return len(self._due)

    # --- all below is called with the lock held

    def _wait(self, due: float) -> None:
        """Wait for a change, and for this time unless another worker does: else each would wake."""
        if due >= self._awaited:
            self._changed.wait()
            return
        self._awaited = due
        self._changed.wait(due - self._clock())
        if self._awaited == due:
            self._awaited = float("inf")

    def _wake_another(self) -> None:
        """Wake a worker for the keys that are left, or for the time of the next."""
        if self._ready or self._ready_of_round or (self._heap and self._heap[0][0] < self._awaited):
            self._changed.notify()

    def _may(self, namespace: str) -> bool:
        return self._most_of_one is None or self._working_for[namespace] < self._most_of_one

    def _end(self, key: K) -> None:
        del self._working[key]
        self._finished_at = self._clock()
        self._working_for[key.namespace] -= 1
        if not self._working_for[key.namespace]:
            del self._working_for[key.namespace]
        if key in self._gathered:
            self._push(key)

    def _prefer(self, key: K) -> None:
        """Take a key before those of a round, if one had added it."""
        if key in self._of_round:
            self._of_round.discard(key)
            if key in self._gathered and key not in self._working:
                self._ready_of_round.discard(key)
                self._ready.push(key)

    def _push(self, key: K) -> None:
        (self._ready_of_round if key in self._of_round else self._ready).push(key)

    def _pop(self) -> K | None:
        first, second = self._ready, self._ready_of_round
        if (self._taken + 1) % _ROUND_SHARE == 0:
            first, second = second, first
        key = first.pop(self._may)
        if key is None:
            key = second.pop(self._may)
        self._taken += key is not None
        return key

    def _drop_outdated(self) -> None:
        """Drop replaced entries, which would stay until they are due, perhaps for a day."""
        if len(self._heap) > 2 * len(self._due) + _OUTDATED_KEPT:
            self._heap = [it for it in self._heap if self._due.get(it[2]) == it[0]]
            heapq.heapify(self._heap)

    def _gather_due(self) -> float:
        """Move due keys to the ready queue; the time of the next, infinite if there is none."""
        while self._heap:
            due, _, key = self._heap[0]
            is_outdated = self._due.get(key) != due or key in self._gathered
            if not is_outdated and due > self._clock():
                return due
            heapq.heappop(self._heap)
            if not is_outdated:
                self._gathered.add(key)
                if key not in self._working:
                    self._push(key)
        return float("inf")


def work(
    queue: WorkQueue[K], do: Callable[[K], float | None], *, workers: int, name: str = "reconcile"
) -> list[threading.Thread]:
    """Start threads that take keys until the queue is closed.

    `do` returns the seconds after which the key comes again, or None. An exception is logged, and
    the key comes again with backoff. `name` is for logs.
    """

    def loop() -> None:
        while (key := queue.take()) is not None:
            failed, again, least_seconds = False, None, 0.0
            try:
                again = do(key)
            except errors.OperatorError as error:
                failed = True
                if isinstance(error, errors.Unavailable):
                    least_seconds = error.retry_after_seconds or 0.0
                _LOG.warning("%s of %s: %s", name, key, error)
            except Exception:  # noqa: BLE001 - a worker outlives any bug of one key
                failed = True
                _LOG.exception("%s of %s failed", name, key)
            queue.done(key, failed=failed, least_seconds=least_seconds)
            if again is not None:
                queue.add(key, after_seconds=again, of_round=True)  # nothing of it has changed

    threads = [
        threading.Thread(target=loop, name=f"{name}-{number}", daemon=True)
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    return threads
