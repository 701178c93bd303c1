"""Choose the next pod to ask: pure, under the caller's clock.

The number of concurrent requests is bounded: for each namespace, and for pods that did not answer
last time or were never asked. Namespaces are served round robin.
"""

import enum
import heapq
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.fair_queue import FairQueue

PLACES: Final = 64
"""Concurrent requests."""
NAMESPACE_PLACES: Final = 8
"""Concurrent requests of one namespace."""


class Rank(enum.IntEnum):
    """The state of a pod; a higher rank has fewer places."""

    ANSWERED = 0
    NEW = 1
    FAILED = 2


RANK_PLACES: Final[Mapping[Rank, int]] = {
    Rank.ANSWERED: PLACES,
    Rank.NEW: PLACES // 2,
    Rank.FAILED: PLACES // 4,
}
"""The places for pods of this rank and all higher ones together."""


class Item(NamedTuple):
    """A question; `pod` is a UID, or empty for the quota of a policy."""

    namespace: str
    policy: str
    pod: str

    @property
    def key(self) -> ObjectKey:
        """The policy, or what stands for an index."""
        return ObjectKey(self.namespace, self.policy)


class Schedule:
    """Questions and their times; a question in progress is put in again afterwards."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Item]] = []
        self._due: dict[Item, tuple[float, Rank]] = {}
        """Future questions, and those put in again while in progress."""
        self._waiting: dict[Item, Rank] = {}
        """Questions that wait for a place."""
        self._ready: Mapping[Rank, FairQueue[Item]] = {rank: FairQueue() for rank in Rank}
        self._asked: dict[Item, Rank] = {}
        self._asked_of_rank: Counter[Rank] = Counter()
        self._asked_of_namespace: Counter[str] = Counter()

    def put(self, item: Item, *, due: float, rank: Rank) -> None:
        """Set the time of a question; one that waits already stays in the queue."""
        if item in self._waiting:
            return
        self._due[item] = (due, rank)
        if item not in self._asked:
            self._push(due, item)

    def drop(self, item: Item) -> None:
        """Remove a question."""
        self._due.pop(item, None)
        rank = self._waiting.pop(item, None)
        if rank is not None:
            self._ready[rank].discard(item)

    def take(self, now: float) -> Item | None:
        """Take the next due question for which there is a place; None if there is none."""
        self._gather(now)
        for rank in Rank:
            item = self._ready[rank].pop(self._may) if self._has_place(rank) else None
            if item is not None:
                del self._waiting[item]
                self._asked[item] = rank
                self._asked_of_rank[rank] += 1
                self._asked_of_namespace[item.namespace] += 1
                return item
        return None

    def done(self, item: Item) -> None:
        """Free the place of a question."""
        self._asked_of_rank[self._asked.pop(item)] -= 1
        self._asked_of_namespace[item.namespace] -= 1
        if not self._asked_of_namespace[item.namespace]:
            del self._asked_of_namespace[item.namespace]
        if item in self._due:
            self._push(self._due[item][0], item)

    def next_due(self) -> float | None:
        """The time of the next future question."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _push(self, due: float, item: Item) -> None:
        heapq.heappush(self._heap, (due, next(self._order), item))
        if len(self._heap) > 2 * len(self._due) + PLACES:
            self._heap = [it for it in self._heap if self._is_current(it)]
            heapq.heapify(self._heap)

    def _gather(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if self._is_current(entry):
                item = entry[2]
                _, rank = self._due.pop(item)
                self._waiting[item] = rank
                self._ready[rank].push(item)

    def _is_current(self, entry: tuple[float, int, Item]) -> bool:
        due, _, item = entry
        return item not in self._asked and item in self._due and self._due[item][0] == due

    def _has_place(self, rank: Rank) -> bool:
        return all(
            sum(self._asked_of_rank[it] for it in Rank if it >= limited) < RANK_PLACES[limited]
            for limited in Rank
            if limited <= rank
        )

    def _may(self, namespace: str) -> bool:
        return self._asked_of_namespace[namespace] < NAMESPACE_PLACES
