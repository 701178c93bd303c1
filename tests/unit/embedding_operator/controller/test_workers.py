"""The work of the holder begins with the Lease, and ends before it is given back."""

import threading

import pytest

from embedding_operator.controller import workers
from embedding_operator.kube.kinds import ObjectKey
from tests.parts.waiting import eventually

KEY = ObjectKey("shop", "search")


class World:
    def __init__(self, do):
        self.ready = threading.Event()
        self.queues = workers.Queues.made(workers=2)
        self.workers = workers.Workers(
            [workers.Part(queue=self.queues.policies, do=do, keys=lambda: [KEY])],
            workers=2,
            resync_seconds=3600,
            is_ready=self.ready.is_set,
        )


@pytest.fixture
def done():
    return []


def test_replica_that_waits_keeps_no_keys():
    """Tenants may make any number of policies in its time."""
    world = World(lambda _: None)
    for number in range(100):
        world.queues.policies.add(ObjectKey("shop", f"search-{number}"))
    assert sum(map(len, world.queues)) == 0


def test_everything_is_reconciled_once_informers_are_synced(done):
    world = World(done.append)
    world.workers.start()
    assert done == []
    world.ready.set()
    eventually(lambda: done == [KEY])
    assert world.workers.end(within_seconds=10)


def test_end_waits_for_reconcile_under_way(done):
    entered, go_on = threading.Event(), threading.Event()

    def slow(key):
        entered.set()
        go_on.wait(10)
        done.append(key)

    world = World(slow)
    world.ready.set()
    world.workers.start()
    assert entered.wait(10)
    threading.Timer(0.1, go_on.set).start()
    assert world.workers.end(within_seconds=10)
    assert done == [KEY]


def test_reconcile_that_hangs_is_told():
    hang, entered = threading.Event(), threading.Event()

    def hangs(_):
        entered.set()
        hang.wait(10)

    world = World(hangs)
    world.ready.set()
    world.workers.start()
    assert entered.wait(10)
    assert not world.workers.end(within_seconds=0.1)
    hang.set()


def test_work_that_ended_before_informers_were_synced_never_begins(done):
    world = World(done.append)
    world.workers.start()
    assert world.workers.end(within_seconds=1)
    world.ready.set()
    assert world.workers.end(within_seconds=1)
    assert done == []


def test_replica_that_never_held_lease_has_nothing_to_end():
    assert World(lambda _: None).workers.end(within_seconds=0)
