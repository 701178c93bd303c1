"""Each key once, never two workers on one key, later if wanted."""

import threading
import time
from queue import SimpleQueue

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.queues.workqueue import WorkQueue

A, B = ObjectKey("shop", "a"), ObjectKey("shop", "b")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_key_added_twice_is_taken_once():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert queue.take() == A
    assert len(queue) == 0


def test_earliest_wish_counts():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    queue.add(A, after_seconds=60)
    queue.add(A, after_seconds=1)
    queue.add(A, after_seconds=30)
    clock.now = 1
    assert queue.take() == A
    assert len(queue) == 0


def test_wishes_that_earlier_one_replaced_do_not_pile_up():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    queue.add(B, after_seconds=3600)
    for _ in range(1000):
        queue.add(A)
        assert queue.take() == A
        queue.done(A, failed=False)
        queue.add(A, after_seconds=86_400)
        clock.now += 1
    assert len(queue._heap) < 100
    clock.now = 3600
    assert queue.take() == B


def test_key_that_is_worked_on_is_not_given_to_second_worker():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    queue.add(B)
    assert queue.take() == B
    queue.done(A, failed=False)
    assert queue.take() == A


def test_failed_key_comes_again_later_each_time():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    waits = []
    for _ in range(5):
        queue.add(A)
        assert queue.take() == A
        queue.done(A, failed=True)
        waits.append(queue._due.pop(A) - clock.now)
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits))


def test_failed_key_does_not_come_before_time_that_server_asked_for():
    clock = Clock()
    ended = threading.Event()

    def do(_: ObjectKey) -> None:
        raise errors.Unavailable("busy", retry_after_seconds=50.0)

    class Watched(WorkQueue[ObjectKey]):
        def done(self, key, *, failed, least_seconds=0):
            super().done(key, failed=failed, least_seconds=least_seconds)
            ended.set()

    queue = Watched(clock=clock)
    workqueue.work(queue, do, workers=1)
    queue.add(A)
    assert ended.wait(timeout=5)
    assert queue._due[A] - clock.now == 50
    queue.close()


def of_round(count):
    """A queue with so many keys of a round, of a namespace each."""
    queue: WorkQueue[ObjectKey] = WorkQueue()
    for number in range(count):
        queue.add(ObjectKey(f"space-{number}", "a"), of_round=True)
    return queue


def test_change_comes_before_keys_of_round():
    queue = of_round(3)
    queue.add(A)
    assert queue.take() == A


def test_change_of_key_that_waits_in_round_brings_it_forward():
    queue = of_round(3)
    last = ObjectKey("space-2", "a")
    queue.add(last, after_seconds=60)
    assert queue.take() == last
    assert len(queue) == 2


def test_key_that_has_changed_stays_in_front_when_round_adds_it():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    queue.add(A)
    queue.add(B, of_round=True)
    queue.add(A, of_round=True)
    assert [queue.take(), queue.take()] == [A, B]


def test_round_goes_on_while_changes_never_end():
    queue = of_round(3)
    taken = []
    for number in range(15):
        for one in range(2):
            queue.add(ObjectKey("busy", f"{number}-{one}"))
        taken.append(queue.take().namespace)
    assert sum(it != "busy" for it in taken) == 3


def test_change_comes_before_keys_that_their_work_wants_again():
    """As of all policies while Vault is away."""
    clock, worked, idle = Clock(), list[ObjectKey](), threading.Event()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    waiting = [ObjectKey("shop", f"waiting-{it}") for it in range(6)]

    def do(key):
        worked.append(key)
        if len(worked) == len(waiting):
            idle.set()
            with queue._changed:  # until all are due, and one has changed
                queue._changed.wait_for(lambda: A in queue._due, 10)
        return 3 if clock.now == 0 else None

    for key in waiting:
        queue.add(key)
    (thread,) = workqueue.work(queue, do, workers=1)
    assert idle.wait(10)
    clock.now = 4
    queue.add(A)
    with queue._changed:
        queue._changed.notify_all()
    while len(queue) or queue.oldest_seconds():
        threading.Event().wait(0.01)
    queue.close()
    thread.join(10)
    assert worked.index(A) == len(waiting)


def test_success_forgets_failures():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    for failed in (True, True, False, True):
        queue.add(A)
        queue.take()
        queue.done(A, failed=failed)
        wait = queue._due.pop(A, 0)
    assert wait <= 1


def test_closing_lets_waiting_workers_end():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    threads = workqueue.work(queue, lambda _: None, workers=3)
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_worker_outlives_what_its_work_raises():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    seen = threading.Event()

    def do(key: ObjectKey) -> None:
        if key == A:
            raise RuntimeError("a bug")
        seen.set()

    workqueue.work(queue, do, workers=1)
    queue.add(A)
    queue.add(B)
    assert seen.wait(timeout=5)
    queue.close()


def test_many_workers_never_share_key_and_miss_no_change():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    lock, busy, clashes, wanted, served = threading.Lock(), set(), [], 400, []

    def do(key: ObjectKey) -> None:
        with lock:
            if key in busy:
                clashes.append(key)
            busy.add(key)
        with lock:
            busy.discard(key)
            served.append(key)

    threads = workqueue.work(queue, do, workers=8)
    for number in range(wanted):
        queue.add(ObjectKey("shop", str(number % 7)))
    for number in range(7):
        queue.add(ObjectKey("last", str(number)))
    while len({key for key in served if key.namespace == "last"}) < 7:
        threading.Event().wait(0.01)
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
    assert clashes == []


def test_key_that_becomes_due_wakes_few_of_many_workers():
    looks, served, workers, keys = [], threading.Semaphore(0), 16, 20

    def clock() -> float:
        looks.append(1)
        return time.monotonic()

    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    for number in range(keys):
        queue.add(ObjectKey("shop", str(number)), after_seconds=0.2 + number / 100)
    threads = workqueue.work(queue, lambda _: served.release(), workers=workers)
    for _ in range(keys):
        assert served.acquire(timeout=30)
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
    assert len(looks) < keys * workers


def test_earlier_key_comes_in_time_though_workers_wait_for_later_one():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    served: SimpleQueue[ObjectKey] = SimpleQueue()
    queue.add(A, after_seconds=3600)
    threads = workqueue.work(queue, served.put, workers=4)
    for _ in range(50):
        queue.add(B, after_seconds=0.001)
        assert served.get(timeout=30) == B
    queue.close()
    for thread in threads:
        thread.join(timeout=5)


def test_namespaces_take_turns_so_that_flood_delays_another_by_one_key():
    queue: WorkQueue[ObjectKey] = WorkQueue()
    for number in range(1000):
        queue.add(ObjectKey("flood", str(number)))
    queue.add(A)
    taken = [queue.take() for _ in range(3)]
    assert [key.namespace for key in taken if key] == ["flood", "shop", "flood"]


def test_one_namespace_does_not_hold_all_workers():
    queue: WorkQueue[ObjectKey] = WorkQueue(most_of_one=3)
    released, reached = threading.Event(), threading.Event()

    def do(key: ObjectKey) -> None:
        if key.namespace == "flood":
            released.wait()
        else:
            reached.set()

    threads = workqueue.work(queue, do, workers=4)
    for number in range(100):
        queue.add(ObjectKey("flood", str(number)))
    queue.add(A)
    try:
        assert reached.wait(timeout=30)
    finally:
        queue.close()
        released.set()
        for thread in threads:
            thread.join()


def test_freed_share_is_taken_by_waiter():
    queue: WorkQueue[ObjectKey] = WorkQueue(most_of_one=1)
    queue.add(A)
    queue.add(B)
    assert queue.take() == A
    taken: list[ObjectKey | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take()))
    waiting.start()
    queue.done(A, failed=False)
    waiting.join(timeout=30)
    assert taken == [B]


def test_oldest_work_is_told_with_its_age():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    assert queue.oldest_seconds() == 0
    queue.add(A)
    queue.add(B)
    queue.take()
    clock.now = 5
    queue.take()
    clock.now = 7
    assert queue.oldest_seconds() == 7
    queue.done(A, failed=False)
    assert queue.oldest_seconds() == 2


def test_work_stalls_while_some_waits_and_none_ends():
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    queue.add(A)
    queue.take()
    clock.now = 1000
    assert queue.stalled_seconds() == 0  # nothing waits
    queue.add(B)
    clock.now = 1030
    assert queue.stalled_seconds() == 30
    queue.done(A, failed=True)
    assert queue.stalled_seconds() == 0
    clock.now = 1040
    assert queue.stalled_seconds() == 10


def test_queue_without_workers_is_not_stalled():
    """Workers start once the caches are synced, which may take long in a large cluster."""
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock=clock)
    queue.add(A)
    clock.now = 1000
    assert queue.stalled_seconds() == 0
    queue.add(B)
    queue.take()
    clock.now = 1030
    assert queue.stalled_seconds() == 30


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9)), max_size=100))
def test_each_wish_is_followed_by_one_work_that_began_later(steps):
    clock = Clock()
    queue: WorkQueue[ObjectKey] = WorkQueue(most_of_one=2, clock=clock)
    keys = [ObjectKey(namespace, str(number)) for namespace in "ab" for number in range(2)]
    wished: set[ObjectKey] = set()
    working: list[ObjectKey] = []

    def take_all() -> None:
        queue._gather_due()
        while (key := queue._ready.pop(queue._may)) is not None:
            queue._ready.push(key)
            found = queue.take()
            assert found is not None
            assert found not in working
            wished.discard(found)
            working.append(found)

    for number, action, seconds in steps:
        if action == 0:
            clock.now += seconds
        elif action == 1 and working:
            queue.done(working.pop(), failed=False)
        else:
            queue.add(keys[number], after_seconds=seconds)
            wished.add(keys[number])
        take_all()
    for _ in range(20):
        clock.now += 10
        while working:
            queue.done(working.pop(), failed=False)
        take_all()
    assert not wished
    assert not queue._gathered
