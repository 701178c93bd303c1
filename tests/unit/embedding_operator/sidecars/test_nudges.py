"""The schedule of nudges for a pod, and its end."""

import threading

import pytest

from embedding_operator import errors
from embedding_operator.sidecars import nudges
from embedding_operator.sidecars.schedule import Item
from embedding_operator.sidecars.targets import Pod


def pod(number, namespace="shop"):
    return Pod(
        namespace=namespace, name=f"pod-{number}", uid=f"{namespace}-{number}", address="10.0.0.1"
    )


def item(pod):
    return Item(pod.namespace, "search", pod.uid)


class World:
    """A clock, and the nudges that pods got, sent by the one who calls `run`."""

    def __init__(self):
        self.seconds = 0.0
        self.sent = []
        self.error = None
        self.told: list[Item] = []
        self.nudger = nudges.Nudger(
            nudge=self.nudge, nudged=self.told.append, clock=lambda: self.seconds
        )

    def behind(self, pod, content="d1.s1"):
        return self.nudger.behind(item(pod), pod, content)

    def nudge(self, namespace, pod, value):
        self.sent.append((self.seconds, pod, value))
        if self.error is not None:
            raise self.error

    def run(self, seconds):
        queue, end = self.nudger._queue, self.seconds + seconds
        while True:
            due = min(queue._due.values(), default=float("inf"))
            if due > end:
                self.seconds = end
                return
            self.seconds = max(self.seconds, due)
            key = queue.take()
            assert key is not None
            failed, again = False, None
            try:
                again = self.nudger.nudge(key)
            except errors.OperatorError:
                failed = True
            queue.done(key, failed=failed)
            if again is not None:
                queue.add(key, after_seconds=again)

    def times(self):
        return [at for at, _, _ in self.sent]


def test_pod_that_is_behind_is_nudged_later_each_time_and_six_times_in_all():
    world = World()
    world.behind(pod(1))
    for _ in range(3600):
        world.run(1)
        world.behind(pod(1))  # as each answer says it again
    assert world.times() == [0, 5, 15, 35, 75, 155]


def test_second_nudge_for_one_content_is_change_too():
    world = World()
    world.behind(pod(1))
    world.run(5)
    values = {value for _, _, value in world.sent}
    assert len(values) == 2
    assert all(value.startswith("d1.s1.") for value in values)


def test_one_that_has_come_to_obey_is_left_alone():
    world = World()
    world.behind(pod(1))
    world.run(1)
    world.nudger.in_force(item(pod(1)), pod(1))
    world.run(600)
    assert len(world.sent) == 1


def test_one_that_obeys_now_and_now_not_is_not_nudged_more_often_for_it():
    world = World()
    for _ in range(1000):
        world.behind(pod(1))
        world.run(1)
        world.nudger.in_force(item(pod(1)), pod(1))
        world.run(1)
    assert len(world.sent) <= nudges.MOST_OF_A_CONTENT


def test_new_content_is_reason_to_nudge_at_once():
    world = World()
    world.behind(pod(1))
    world.run(600)
    world.behind(pod(1), "d2.s1")
    world.run(0)
    assert len(world.sent) == nudges.MOST_OF_A_CONTENT + 1


def test_content_that_changes_constantly_nudges_pod_once_per_second():
    world = World()
    for number in range(1000):
        world.behind(pod(1), f"d{number}.s1")
        world.run(0.1)
    assert len(world.sent) <= 101


def test_pod_that_has_gone_is_nudged_no_more():
    world = World()
    world.behind(pod(1))
    world.run(1)
    world.nudger.forget(item(pod(1)), pod(1))
    world.run(600)
    assert len(world.sent) == 1
    assert world.nudger._late == {}


@pytest.mark.parametrize("error", [errors.Denied("no"), errors.Unavailable("away")])
def test_nudges_that_are_refused_end_too(error):
    world = World()
    world.error = error
    world.behind(pod(1))
    world.run(3600)
    assert len(world.sent) == nudges.MOST_OF_A_CONTENT
    assert len(world.nudger._queue) == 0


def test_first_nudge_for_content_is_told_and_no_later_one():
    world = World()
    assert world.behind(pod(1))
    assert world.behind(pod(1))
    assert world.told == []
    world.run(0)
    assert world.told == [item(pod(1))]
    assert not world.behind(pod(1))
    world.run(600)
    assert world.told == [item(pod(1))]
    assert world.behind(pod(1), "d2.s1")
    world.run(1)
    assert world.told == [item(pod(1))] * 2


def test_first_nudge_that_fails_is_told_too():
    world = World()
    world.error = errors.Denied("no")
    world.behind(pod(1))
    world.run(0)
    assert world.told == [item(pod(1))]
    assert not world.behind(pod(1))


def test_two_hundred_silent_pods_cost_bounded_number_of_requests():
    """field.md, C8 (external-secrets#3258)."""
    world = World()
    for number in range(200):
        world.behind(pod(number))
    world.run(3600)
    assert len(world.sent) == 200 * nudges.MOST_OF_A_CONTENT
    assert max(world.times()) <= 155


def test_requests_that_hang_hold_only_their_namespaces_threads():
    released, reached = threading.Event(), threading.Event()

    def nudge(namespace, pod, value):
        if namespace == "flood":
            released.wait()
        else:
            reached.set()

    nudger = nudges.Nudger(nudge=nudge, nudged=lambda item: None)
    threads = nudger.start()
    for number in range(20):
        late = pod(number, "flood")
        nudger.behind(item(late), late, "d1.s1")
    nudger.behind(item(pod(1)), pod(1), "d1.s1")
    try:
        assert reached.wait(timeout=30)
    finally:
        nudger.close()
        released.set()
        for thread in threads:
            thread.join()


def test_state_of_index_pod_is_apart_from_that_of_its_sidecar():
    world = World()
    working, of_index = pod(1), Item("shop", "index/articles", pod(1).uid)
    world.behind(pod(1))
    world.nudger.in_force(of_index, working)
    world.nudger.forget(of_index, working)
    world.run(1)
    assert [name for _, name, _ in world.sent] == ["pod-1"]
