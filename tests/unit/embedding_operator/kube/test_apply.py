"""The memory of owned objects, and those that no watch shows; tests/integration tests the rest."""

import pytest

from embedding_operator import errors
from embedding_operator.kube import apply
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.render import configmaps
from tests.parts import policies

POLICY = policies.parsed()
DESIRED = configmaps.environment(POLICY)


class Empty(KubeClient):
    """A cluster that loses whatever is applied."""

    def __init__(self):
        pass

    def get(self, *_):
        return None

    def apply(self, desired, **_):
        return {**desired, "metadata": {**desired["metadata"], "resourceVersion": "1"}}

    def remove_keys(self, desired, keys):
        raise AssertionError("there are none")

    def delete(self, *_):
        raise AssertionError("there is nothing")


def applier(objects, drifted=lambda _: None):
    return apply.ObjectApplier(objects=objects, reads=CurrentReads(objects.get), drifted=drifted)


def test_drift_is_counted_and_deleted_policy_is_forgotten():
    drifted: list[str] = []
    objects = applier(Empty(), drifted=drifted.append)
    objects.ensure(POLICY, DESIRED, live=None)
    assert drifted == []
    objects.ensure(POLICY, DESIRED, live=None)
    assert drifted == ["ConfigMap"]
    objects.forget(POLICY.kind, POLICY.namespace, POLICY.name)
    objects.ensure(POLICY, DESIRED, live=None)
    assert drifted == ["ConfigMap"]
    objects.forget(POLICY.kind, POLICY.namespace, POLICY.name)
    assert not objects._applied


def test_foreign_object_is_problem_and_stays():
    objects = applier(Empty())
    foreign = {**DESIRED, "metadata": {"name": "x", "ownerReferences": []}, "data": {"a": "b"}}
    live, problem = objects.ensure(POLICY, DESIRED, live=foreign)
    assert live is None
    assert problem is not None
    assert problem.reason == "ForeignObject"
    assert not objects._applied


def test_refused_object_is_problem_and_is_not_remembered():
    class Refusing(Empty):
        def apply(self, desired, **_):
            raise errors.Denied("no right")

    objects = applier(Refusing())
    live, problem = objects.ensure_read(POLICY, DESIRED)
    assert (live, problem) == (None, errors.Problem("Refused", "no right"))
    assert not any(objects._applied.values())


class Hidden(Empty):
    """A cluster with one object, which the watch of ours does not show."""

    def __init__(self, live):
        self.live = live
        self.forced = 0

    def get(self, *_):
        return self.live

    def apply(self, desired, *, is_new=False, **_):
        if is_new and self.live is not None:
            raise errors.Conflict("there is one")
        self.forced += not is_new
        self.live = {**desired, "metadata": {**desired["metadata"], "resourceVersion": "9"}}
        return self.live

    def token(self, *_):
        return None

    def shows_none(self, *_):
        return True


def hidden(**metadata):
    """An object of ours without its label, as `--cascade=orphan` or `kubectl label` leaves it."""
    known = DESIRED["metadata"]
    made = {**known, "labels": {}, "resourceVersion": "5", **metadata}
    return Hidden({**DESIRED, "metadata": made})


def ensuring(objects, drifted=lambda _: None):
    reads = CurrentReads(objects.get, changes=objects)
    return apply.ObjectApplier(objects=objects, reads=reads, drifted=drifted)


def test_hidden_object_of_ours_is_repaired_at_once_and_counted_once():
    """Else a policy with six of them is never reconciled: rounds overtake its backoff."""
    objects = Hidden(None)
    drifted: list[str] = []
    ensured = ensuring(objects, drifted=drifted.append)
    ensured.ensure_read(POLICY, DESIRED)
    objects.live = hidden().live
    ensured._reads = CurrentReads(objects.get, changes=objects)  # as after two rounds
    live, problem = ensured.ensure_read(POLICY, DESIRED)
    assert problem is None
    assert live["metadata"]["labels"] == DESIRED["metadata"]["labels"]
    assert objects.forced == 1
    assert drifted == ["ConfigMap"]


def test_hidden_object_is_not_overwritten_with_what_was_made_without_it():
    objects = hidden()
    with pytest.raises(errors.Conflict):
        ensuring(objects).ensure(POLICY, DESIRED, live=None)
    assert objects.forced == 0


def test_object_held_by_finalizer_is_problem_and_no_conflict_for_ever():
    objects = hidden(deletionTimestamp="2026-01-01T00:00:00Z")
    live, problem = ensuring(objects).ensure(POLICY, DESIRED, live=None)
    assert live is None
    assert problem is not None
    assert (problem.reason, objects.forced) == ("Refused", 0)
