"""Each key once, never two workers on one key, later if wanted."""

import threading

from embedding_operator import errors, workqueue
from embedding_operator.workqueue import Key, WorkQueue

A, B = Key("shop", "a"), Key("shop", "b")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_added_twice_is_taken_once():
    queue: WorkQueue[Key] = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert queue.take() == A
    assert len(queue) == 0


def test_the_earliest_wish_counts():
    clock = Clock()
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    queue.add(A, after_seconds=60)
    queue.add(A, after_seconds=1)
    queue.add(A, after_seconds=30)
    clock.now = 1
    assert queue.take() == A
    assert len(queue) == 0


def test_wishes_that_an_earlier_one_replaced_do_not_pile_up():
    clock = Clock()
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
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


def test_a_key_that_is_worked_on_is_not_given_to_a_second_worker():
    queue: WorkQueue[Key] = WorkQueue()
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    queue.add(B)
    assert queue.take() == B
    queue.done(A, failed=False)
    assert queue.take() == A


def test_a_failed_key_comes_again_later_each_time():
    clock = Clock()
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    waits = []
    for _ in range(5):
        queue.add(A)
        assert queue.take() == A
        queue.done(A, failed=True)
        waits.append(queue._due.pop(A) - clock.now)
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits))


def test_a_failed_key_does_not_come_before_the_time_that_a_server_asked_for():
    clock = Clock()
    ended = threading.Event()

    def do(_: Key) -> None:
        raise errors.Unavailable("busy", retry_after_seconds=50.0)

    class Watched(WorkQueue[Key]):
        def done(self, key, *, failed, least_seconds=0):
            super().done(key, failed=failed, least_seconds=least_seconds)
            ended.set()

    queue = Watched(clock=clock)
    workqueue.work(queue, do, workers=1)
    queue.add(A)
    assert ended.wait(timeout=5)
    assert queue._due[A] - clock.now == 50
    queue.close()


def test_a_success_forgets_the_failures():
    clock = Clock()
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    for failed in (True, True, False, True):
        queue.add(A)
        queue.take()
        queue.done(A, failed=failed)
        wait = queue._due.pop(A, 0)
    assert wait <= 1


def test_closing_lets_waiting_workers_end():
    queue: WorkQueue[Key] = WorkQueue()
    threads = workqueue.work(queue, lambda _: None, workers=3)
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_a_worker_outlives_what_its_work_raises():
    queue: WorkQueue[Key] = WorkQueue()
    seen = threading.Event()

    def do(key: Key) -> None:
        if key == A:
            raise RuntimeError("a bug")
        seen.set()

    workqueue.work(queue, do, workers=1)
    queue.add(A)
    queue.add(B)
    assert seen.wait(timeout=5)
    queue.close()


def test_many_workers_never_share_a_key_and_miss_no_change():
    queue: WorkQueue[Key] = WorkQueue()
    lock, busy, clashes, wanted, served = threading.Lock(), set(), [], 400, []

    def do(key: Key) -> None:
        with lock:
            if key in busy:
                clashes.append(key)
            busy.add(key)
        with lock:
            busy.discard(key)
            served.append(key)

    threads = workqueue.work(queue, do, workers=8)
    for number in range(wanted):
        queue.add(Key("shop", str(number % 7)))
    for number in range(7):
        queue.add(Key("last", str(number)))
    while len({key for key in served if key.namespace == "last"}) < 7:
        threading.Event().wait(0.01)
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
    assert clashes == []
