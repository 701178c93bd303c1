"""The memory of owned objects; tests/integration tests what is done to them."""

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
