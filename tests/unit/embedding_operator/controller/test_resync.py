"""Every policy is resynced at intervals, and no more of them in a second than a server bears."""

import threading

import pytest

from embedding_operator.controller import resync
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.workqueue import WorkQueue


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def policies(count):
    return [ObjectKey("shop", f"p-{it}") for it in range(count)]


def due_by(queue, clock, seconds):
    """How many policies are due by then that were not before."""
    clock.now = seconds
    queue._gather_due()
    due = len(queue._gathered)
    for _ in range(due):
        queue.done(queue.take(), failed=False)
    return due


@pytest.mark.parametrize(("count", "period_seconds"), [(0, 30), (3, 30), (150, 30), (2000, 400)])
def test_period_is_as_long_as_asked_for_or_as_many_policies_need(count, period_seconds):
    found = resync.spread(WorkQueue(), policies(count), resync_seconds=30)
    assert found == period_seconds


def test_policies_come_as_stream_and_all_of_them_in_period():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    period_seconds = resync.spread(queue, policies(2000), resync_seconds=30)
    assert due_by(queue, clock, period_seconds / 2) == 1001
    assert due_by(queue, clock, period_seconds) == 999


def test_each_period_takes_policies_that_there_are_then():
    added = []
    stopping = threading.Event()

    class Recording(WorkQueue[ObjectKey]):
        def add(self, key, *, after_seconds=0, of_round=False):
            added.append(key)

    first, second = policies(2)
    lists = [[first], [first, second], [second]]

    def listed():
        found = lists.pop(0)
        if not lists:
            stopping.set()
        return found

    resync.run(Recording(), listed, 0.0, stopping)
    assert added == [first, first, second, second]
