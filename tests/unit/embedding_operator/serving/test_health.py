"""Liveness: when kubelet restarts the operator, and when a probe shows that it is behind."""

import threading
from functools import partial
from http import HTTPStatus

import pytest

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.serving import health

DEADLINE_SECONDS = 60.0


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class World:
    def __init__(self, **more):
        self.clock = Clock()
        self.queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue(clock=self.clock, **more)
        self.pages = health.pages(
            live=[partial(health.work_ends, self.queue, deadline_seconds=DEADLINE_SECONDS)],
            ready=[partial(health.work_is_in_time, self.queue, deadline_seconds=DEADLINE_SECONDS)],
        )

    def live(self):
        return self.pages[health.LIVE_PATH]("").status is HTTPStatus.OK

    def ready(self):
        return self.pages[health.READY_PATH]("").status is HTTPStatus.OK


def test_all_is_well_at_first():
    world = World()
    world.clock.now = 1e6
    assert world.live()
    assert world.ready()


def test_health_page_tells_problem():
    pages = health.pages(live=[lambda: "nothing watches pods"], ready=[])
    for path in (health.LIVE_PATH, health.READY_PATH):
        reply = pages[path]("")
        assert reply.status is HTTPStatus.SERVICE_UNAVAILABLE
        assert reply.body == b"nothing watches pods\n"


def test_unready_operator_is_still_live():
    pages = health.pages(live=[], ready=[lambda: "the webhook does not listen yet"])
    assert pages[health.LIVE_PATH]("").status is HTTPStatus.OK
    assert pages[health.READY_PATH]("").status is HTTPStatus.SERVICE_UNAVAILABLE


def test_reconcile_over_its_deadline_makes_operator_unready():
    world = World()
    world.queue.add(ObjectKey("shop", "a"))
    world.queue.take()
    world.clock.now = health.GRACE * DEADLINE_SECONDS
    assert not world.ready()
    assert world.live()
    world.queue.done(ObjectKey("shop", "a"), failed=False)
    assert world.ready()


def test_operator_is_not_live_if_no_reconcile_ends_for_three_deadlines():
    world = World()
    for number in range(5):
        world.queue.add(ObjectKey("shop", str(number)))
    for _ in range(4):
        world.queue.take()
    world.clock.now = 3 * DEADLINE_SECONDS - 1
    assert world.live()
    world.clock.now = 3 * DEADLINE_SECONDS
    assert not world.live()


@pytest.mark.parametrize("workers", [1, 4])
def test_reconciles_at_their_deadline_leave_operator_live(workers):
    """A tenant makes a thousand policies, each of which takes as long as a reconcile may."""
    world = World(most_of_one=max(1, workers - 1))
    for number in range(1000):
        world.queue.add(ObjectKey("flood", str(number)))
    world.queue.add(ObjectKey("shop", "a"))
    served = []
    for _ in range(400):
        taken = [world.queue.take() for _ in range(min(2, workers))]
        world.clock.now += DEADLINE_SECONDS
        assert world.live()
        assert world.ready()
        for key in filter(None, taken):
            served.append(key)
            world.queue.done(key, failed=True)
    assert ObjectKey("shop", "a") in served[:4]


def test_checks_may_be_asked_from_any_thread_while_work_goes_on():
    queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue()
    workqueue.work(queue, lambda _: None, workers=4)
    pages = health.pages(live=[partial(health.work_ends, queue, deadline_seconds=60)], ready=[])
    stop = threading.Event()

    def flood():
        number = 0
        while not stop.is_set():
            number += 1
            queue.add(ObjectKey("flood", str(number % 100)))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert all(pages[health.LIVE_PATH]("").status is HTTPStatus.OK for _ in range(1000))
    finally:
        stop.set()
        thread.join()
        queue.close()
