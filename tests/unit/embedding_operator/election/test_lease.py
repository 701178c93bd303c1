"""Replicas and one Lease: two never hold it at once, whatever is lost and whoever is frozen."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.election import decision, lease

SYSTEM = "embedding-system"
DONE, LOST, ANSWER_LOST = "done", "lost", "answer lost"


class Time:
    now = 1000.0


class Server:
    """One Lease, and faults of the next calls."""

    def __init__(self):
        self.lease: Any = None
        self.versions = itertools.count(1)
        self.fault = DONE
        self.writes = 0

    def get(self, kind, namespace, name):
        assert (namespace, name) == (SYSTEM, names.LEASE)
        if self.fault != DONE:
            raise errors.Unavailable("lost")
        return copy.deepcopy(self.lease)

    def create(self, kind, namespace, body):
        return self._write(body, allowed=self.lease is None)

    def replace(self, kind, namespace, body):
        if self.lease is None:
            raise errors.Unavailable("gone", reason="NotFound")
        version = body["metadata"]["resourceVersion"]
        return self._write(body, allowed=version == self.lease["metadata"]["resourceVersion"])

    def _write(self, body, *, allowed):
        if self.fault == LOST:
            raise errors.Unavailable("lost")
        if not allowed:
            raise errors.Conflict("changed")
        self.writes += 1
        made = copy.deepcopy(body)
        made["metadata"]["resourceVersion"] = str(next(self.versions))
        self.lease = made
        if self.fault == ANSWER_LOST:
            raise errors.Unavailable("no answer")
        return copy.deepcopy(made)

    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Replica:
    """One with a clock that is `ahead` of the others'."""

    def __init__(self, server, time, name, *, ahead=0.0):
        self.gained = 0
        self.lost: list[str] = []
        self.lease = lease.Lease(
            objects=server,
            namespace=SYSTEM,
            identity=name,
            gained=self.gain,
            lost=self.lost.append,
            clock=lambda: time.now + ahead,
        )

    def gain(self):
        self.gained += 1

    @property
    def is_held(self):
        return self.lease.is_held


class World:
    def __init__(self, *ahead):
        self.time, self.server = Time(), Server()
        self.replicas = [
            Replica(self.server, self.time, f"replica-{number}", ahead=seconds)
            for number, seconds in enumerate(ahead or (0.0, 500.0))
        ]

    def go_on(self, *replicas, seconds):
        """Time passes, in which these replicas look every second."""
        for _ in range(seconds):
            self.time.now += 1
            for it in replicas:
                it.lease.step()


def test_first_replica_holds_and_second_waits():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=60)
    assert first.is_held
    assert not second.is_held
    assert (first.gained, second.gained) == (1, 0)
    assert world.server.holder() == "replica-0"
    spec = world.server.lease["spec"]
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (15, 0)


def test_lease_of_holder_that_fell_silent_is_taken_after_15_seconds():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    world.go_on(second, seconds=14)
    assert not second.is_held
    world.go_on(second, seconds=2)
    assert second.is_held
    assert world.server.lease["spec"]["leaseTransitions"] == 1
    assert not first.is_held


def test_holder_that_was_frozen_ends_and_sends_nothing():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    world.go_on(second, seconds=20)
    writes = world.server.writes
    with pytest.raises(errors.NotHolder):
        first.lease.check()
    first.lease.step()
    assert first.lost == ["the Lease was not renewed in time"]
    assert world.server.writes == writes
    first.lease.step()
    assert len(first.lost) == 1


def test_holder_that_cannot_renew_stops_before_others_may_take_it():
    world = World()
    first, _ = world.replicas
    world.go_on(first, seconds=5)
    world.server.fault = LOST
    world.go_on(first, seconds=9)
    assert first.is_held
    world.go_on(first, seconds=2)
    assert not first.is_held
    assert first.lost


def test_holder_survives_lost_call_and_lost_answer():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    for fault in (LOST, ANSWER_LOST):
        world.server.fault = fault
        world.go_on(first, second, seconds=4)
        world.server.fault = DONE
        world.go_on(first, second, seconds=4)
    assert first.is_held
    assert (first.lost, second.gained) == ([], 0)


def test_holder_makes_deleted_lease_anew():
    world = World()
    first, _ = world.replicas
    world.go_on(first, seconds=5)
    world.server.lease = None
    world.go_on(first, seconds=3)
    assert world.server.holder() == "replica-0"
    assert not first.lost


def test_holder_whose_lease_was_given_to_another_by_hand_ends():
    world = World()
    first, _ = world.replicas
    world.go_on(first, seconds=5)
    world.server.lease["spec"]["holderIdentity"] = "somebody"
    world.server.lease["metadata"]["resourceVersion"] = "by hand"
    world.go_on(first, seconds=3)
    assert not first.is_held
    assert first.lost == ["somebody holds the Lease"]


def test_edit_of_label_takes_no_lease_away():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    world.server.lease["metadata"]["resourceVersion"] = "by hand"
    world.go_on(first, second, seconds=20)
    assert first.is_held
    assert second.gained == 0


def test_lease_that_is_given_back_is_taken_at_once():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    first.lease.release()
    assert not first.is_held
    assert world.server.holder() == ""
    world.go_on(second, seconds=2)
    assert second.is_held
    first.lease.step()
    assert (first.gained, first.lost) == (1, [])


def test_replica_gives_back_only_what_it_holds():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    second.lease.release()
    assert world.server.holder() == "replica-0"
    world.go_on(second, seconds=30)  # the first has gone
    assert second.gained == 0  # it was told to end


def test_lease_of_unknown_version_is_left_to_run_out():
    """Given back without a version it might be one that another replica has taken."""
    world = World()
    first, _ = world.replicas
    world.go_on(first, seconds=5)
    world.server.fault = ANSWER_LOST
    world.go_on(first, seconds=2)
    world.server.fault = DONE
    writes = world.server.writes
    first.lease.release()
    assert world.server.writes == writes
    assert world.server.holder() == "replica-0"


def test_frozen_holder_gives_nothing_back():
    world = World()
    first, second = world.replicas
    world.go_on(first, second, seconds=5)
    world.go_on(second, seconds=20)
    first.lease.release()
    assert world.server.holder() == "replica-1"


def test_missing_right_ends_replica_with_name_of_value():
    world = World()
    first, _ = world.replicas

    def refused(*_):
        raise errors.Denied("GET leases: 403")

    world.server.get = refused  # type: ignore[method-assign]
    world.go_on(first, seconds=int(lease.DENIED_SECONDS) + 2)
    (reason,) = first.lost
    for word in ("leaderElection.enabled", "replicas: 1", SYSTEM, "403"):
        assert word in reason


def test_replica_is_ready_once_it_has_taken_part():
    world = World()
    first, _ = world.replicas
    create = world.server.create

    def refused(*_):
        raise errors.Denied("POST leases: 403")

    world.server.create = refused  # type: ignore[method-assign]
    world.go_on(first, seconds=2)
    assert first.lease.waits() == "the Lease was neither read nor made yet"
    world.server.create = create  # type: ignore[method-assign]
    world.go_on(first, seconds=5)
    assert first.lease.waits() is None


def test_refusals_by_api_server_that_just_started_end_no_replica():
    world = World()
    first, second = world.replicas
    get = world.server.get

    def refused(*_):
        raise errors.Denied("GET leases: 403")

    for _ in range(3):
        world.server.get = refused  # type: ignore[method-assign]
        world.go_on(first, second, seconds=int(lease.DENIED_SECONDS) // 2)
        world.server.get = get  # type: ignore[method-assign]
        world.go_on(first, second, seconds=5)
    assert [it.lost for it in world.replicas] == [[], []]
    assert [it.is_held for it in world.replicas].count(True) == 1


def test_right_that_is_missing_for_moment_costs_holder_nothing():
    world = World()
    first, _ = world.replicas
    world.go_on(first, seconds=5)
    replace = world.server.replace

    def refused(*_):
        raise errors.Denied("PUT leases: 403")

    world.server.replace = refused  # type: ignore[method-assign]
    world.go_on(first, seconds=5)
    world.server.replace = replace  # type: ignore[method-assign]
    world.go_on(first, seconds=5)
    assert first.is_held
    assert first.lost == []


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # the replica
        st.sampled_from([DONE, DONE, DONE, LOST, ANSWER_LOST]),
        st.floats(0, 12),  # seconds until the next step of any
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(steps=STEPS, ends=st.lists(st.integers(0, 59), max_size=2))
def test_two_replicas_never_hold_at_once(steps, ends):
    world = World(0.0, -300.0, 7000.0)
    for number, (who, fault, seconds) in enumerate(steps):
        world.server.fault = fault
        if number in ends:
            world.replicas[who].lease.release()
        else:
            world.replicas[who].lease.step()
        assert sum(it.is_held for it in world.replicas) <= 1
        world.time.now += seconds
        assert sum(it.is_held for it in world.replicas) <= 1


def test_identity_is_of_this_process_alone(monkeypatch):
    monkeypatch.setenv("POD_ID", "embedding-operator-abc")
    first, second = lease.identity(), lease.identity()
    assert first != second
    assert first.startswith("embedding-operator-abc_")


def test_holder_renews_more_often_than_it_must():
    assert 2 * lease.CALL_SECONDS < decision.RENEW_DEADLINE_SECONDS
