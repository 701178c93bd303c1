"""Who obeys what, who is nudged how often, and how soon it is looked at again."""

import itertools
from datetime import UTC, datetime

import pytest

from embedding_operator import observation, sidecars, status

POLICY = ("shop", "search")
WANTED = observation.Wanted(document="d2", secrets="s2", token="t")
NEWEST = sidecars.InForce(document="d2", secrets="s2", rejected=None)
OLDER = sidecars.InForce(document="d1", secrets="s2", rejected=None)
DAY = status.LiveQuota(
    used=1, limit=10, reset_at=datetime(2026, 1, 2, tzinfo=UTC), exact=True, exact_reason=""
)


class World:
    """Sidecars by address, a clock, and the nudges that pods got."""

    def __init__(self):
        self.seconds = 0.0
        self.answers = {}
        self.days = {}
        self.asked_for_quota = []
        self.nudged = []
        self.observer = observation.Observer(asks=self, nudges=self, clock=lambda: self.seconds)

    def in_force(self, address, *, token):
        assert token == "t"
        return self.answers.get(address)

    def quota(self, address, *, token):
        self.asked_for_quota.append(address)
        return self.days.get(address)

    def nudge(self, namespace, pod, value):
        self.nudged.append((pod, value))

    def look(self, *numbers, wanted=WANTED):
        return self.observer.force(POLICY, [pod(number) for number in numbers], wanted)

    def again(self):
        return self.observer.look_again_seconds(POLICY)


def pod(number):
    return {
        "metadata": {"name": f"pod-{number}", "namespace": "shop", "uid": f"uid-{number}"},
        "status": {"podIP": f"10.0.0.{number}"},
    }


def test_the_token_to_ask_with_is_not_shown():
    assert "s3cr3t" not in repr(observation.Wanted(document="d", secrets="s", token="s3cr3t"))


def test_those_that_obey_are_left_alone():
    world = World()
    world.answers = {"10.0.0.1": NEWEST, "10.0.0.2": NEWEST}
    assert world.look(1, 2) == status.Force(in_force=2)
    assert world.nudged == []
    assert world.again() is None


def test_those_that_are_behind_are_named_with_what_they_obey_and_nudged():
    world = World()
    keys = sidecars.InForce(document="d2", secrets="s1", rejected=None)
    none = sidecars.InForce(document="", secrets="", rejected=None)
    refuses = sidecars.InForce(document="d1", secrets="s1", rejected="version: is 2")
    world.answers = {"10.0.0.1": OLDER, "10.0.0.2": keys, "10.0.0.3": none, "10.0.0.4": refuses}
    assert world.look(1, 2, 3, 4).behind == (
        "pod-1 obeys document d1",
        "pod-2 holds older keys",
        "pod-3 has no document yet",
        "pod-4 version: is 2",
    )
    assert [name for name, _ in world.nudged] == ["pod-1", "pod-2", "pod-3", "pod-4"]


def test_who_cannot_be_asked_is_unknown():
    world = World()
    world.answers = {"10.0.0.1": NEWEST}
    assert world.look(1, 2) == status.Force(in_force=1, unknown=1)


def test_refused_keys_are_counted_by_provider_among_those_that_tell():
    world = World()
    refusing = [frozenset(), frozenset({"a"}), frozenset({"a", "b"}), None]
    for number, refused in enumerate(refusing, 1):
        world.answers[f"10.0.0.{number}"] = sidecars.InForce(
            document="d2", secrets="s2", rejected=None, keys_refused=refused
        )
    found = world.look(1, 2, 3, 4, 5)
    assert found.keys_told == 3
    assert found.keys_refused == {"a": 2, "b": 1}


def test_a_pod_is_nudged_again_later_each_time():
    world = World()
    for second in range(200):
        world.seconds = float(second)
        world.look(1)
    assert [name for name, _ in world.nudged] == ["pod-1"] * 6  # at 0, 5, 15, 35, 75, 155 s


def test_a_second_nudge_is_a_change_too():
    world = World()
    world.look(1)
    world.seconds = 5
    world.look(1)
    first, second = (value for _, value in world.nudged)
    assert first != second


def test_new_content_is_a_reason_to_nudge_at_once():
    world = World()
    world.look(1)
    world.look(1, wanted=observation.Wanted(document="d3", secrets="s2", token="t"))
    assert len(world.nudged) == 2


def test_it_is_looked_at_every_second_at_first_and_then_less_and_less():
    world = World()
    world.look(1)
    assert world.again() == 1
    world.seconds = 5
    world.look(1)
    assert world.again() == 1
    world.seconds = 60
    world.look(1)
    assert world.again() == 12
    world.seconds = 3600
    world.look(1)
    assert world.again() == 30


def test_patience_begins_anew_with_new_content():
    world = World()
    world.look(1)
    world.seconds = 3600
    world.look(1, wanted=observation.Wanted(document="d3", secrets="s2", token="t"))
    assert world.again() == 1


def test_once_all_obey_there_is_nothing_to_wait_for():
    world = World()
    world.look(1)
    world.answers = {"10.0.0.1": NEWEST}
    world.look(1)
    assert world.again() is None


def test_the_day_is_asked_of_one_that_answers_and_kept_for_a_while():
    world = World()
    world.answers = {"10.0.0.2": NEWEST, "10.0.0.3": NEWEST}
    world.days = {"10.0.0.2": DAY, "10.0.0.3": DAY}
    world.look(1, 2, 3)
    for second in (0, 14):
        world.seconds = float(second)
        assert world.observer.quota(POLICY, token="t") == DAY
    assert world.asked_for_quota == ["10.0.0.2"]
    world.seconds = 15
    world.observer.quota(POLICY, token="t")
    assert world.asked_for_quota == ["10.0.0.2", "10.0.0.2"]


RESYNC_SECONDS = 30  # the chart's


@pytest.mark.parametrize("early_seconds", [0, 0.01, 2])
def test_every_resync_sees_the_day_anew(early_seconds):
    world = World()
    world.answers, world.days = {"10.0.0.1": NEWEST}, {"10.0.0.1": DAY}
    world.look(1)
    for resync in range(4):
        # Every second one comes a little early, measured from the one before.
        world.seconds = resync * RESYNC_SECONDS - early_seconds * (resync % 2)
        world.observer.quota(POLICY, token="t")
        assert len(world.asked_for_quota) == resync + 1


@pytest.mark.parametrize("event_seconds", range(0, RESYNC_SECONDS, 3))
def test_what_an_event_brought_keeps_the_day_no_longer_than_a_resync_and_a_half(event_seconds):
    world = World()
    world.answers, world.days = {"10.0.0.1": NEWEST}, {"10.0.0.1": DAY}
    world.look(1)
    asked = []
    for second in (event_seconds, *range(RESYNC_SECONDS, 5 * RESYNC_SECONDS, RESYNC_SECONDS)):
        world.seconds = float(second)
        before = len(world.asked_for_quota)
        world.observer.quota(POLICY, token="t")
        asked += [second] * (len(world.asked_for_quota) - before)
    assert max(b - a for a, b in itertools.pairwise(asked)) <= 1.5 * RESYNC_SECONDS


def test_a_day_that_was_seen_stays_while_nobody_tells():
    world = World()
    world.answers = {"10.0.0.1": NEWEST}
    world.days = {"10.0.0.1": DAY}
    world.look(1)
    world.observer.quota(POLICY, token="t")
    world.days, world.seconds = {}, 60
    assert world.observer.quota(POLICY, token="t") == DAY


def test_a_policy_that_has_gone_is_forgotten():
    world = World()
    world.answers = {"10.0.0.2": NEWEST}
    world.days = {"10.0.0.2": DAY}
    world.look(1, 2)
    world.observer.quota(POLICY, token="t")
    world.observer.forget(POLICY)
    assert world.again() is None
    assert world.observer.quota(POLICY, token="t") is None
