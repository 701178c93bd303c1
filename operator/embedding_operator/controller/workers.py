"""The workers of the replica that holds the Lease, for each queue, and the resync."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from embedding_operator.controller import resync
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.queues.workqueue import WorkQueue

SYNC_POLL_SECONDS: Final = 0.05


class Queues(NamedTuple):
    """The queue of each kind that is reconciled."""

    policies: WorkQueue[ObjectKey]
    indexes: WorkQueue[ObjectKey]
    classes: WorkQueue[ObjectKey]
    injections: WorkQueue[ObjectKey]

    @classmethod
    def made(cls, *, workers: int) -> "Queues":
        """Closed ones, in which one namespace has all workers but one at most."""
        most = max(1, workers - 1)
        return cls(
            WorkQueue(most_of_one=most, is_open=False),
            WorkQueue(most_of_one=most, is_open=False),
            WorkQueue(is_open=False),
            WorkQueue(is_open=False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A queue, what is done with its keys, and the keys that each resync adds."""

    queue: WorkQueue[ObjectKey]
    do: Callable[[ObjectKey], float | None]
    keys: Callable[[], Sequence[ObjectKey]]


class Workers:
    """Reconciles from `start` to `end`; `is_ready` tells that the informers are synced."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        workers: int,
        resync_seconds: float,
        is_ready: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._resync_seconds = resync_seconds
        self._is_ready = is_ready
        self._stopping = threading.Event()
        self._started: list[threading.Thread] = []
        self._lock = threading.Lock()
        """Held while workers are started, so that `end` sees all of them."""

    def start(self) -> None:
        """Reconcile everything and resync, once the informers are synced."""
        for part in self._parts:
            threading.Thread(target=self._run, args=(part,), name="resync", daemon=True).start()

    def end(self, *, within_seconds: float) -> bool:
        """Take no more keys; true if all reconciles under way ended in time."""
        ends_at = time.monotonic() + within_seconds
        with self._lock:
            self._stopping.set()
        for part in self._parts:
            part.queue.close()
        for thread in self._started:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(it.is_alive() for it in self._started)

    def _run(self, part: Part) -> None:
        while not self._is_ready():
            if self._stopping.wait(SYNC_POLL_SECONDS):
                return
        with self._lock:
            if self._stopping.is_set():
                return
            part.queue.open()
            # Changes before were dropped, and are in the stores by now.
            listed = part.keys()
            for key in listed:
                part.queue.add(key, of_round=True)
            self._started += workqueue.work(part.queue, part.do, workers=self._workers)
        resync.run(part.queue, part.keys, self._resync_seconds, self._stopping)
