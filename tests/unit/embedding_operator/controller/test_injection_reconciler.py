"""What the API server injects in a namespace, kept by what was last seen of it."""

from typing import Any, cast

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import injection_reconciler
from embedding_operator.informers import objects
from embedding_operator.informers.caches import Caches
from embedding_operator.informers.kept import encode
from embedding_operator.injection import injector, namespace_bounds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey
from tests.parts import injected_pods, pods

KEY = ObjectKey("shop", names.INJECTION_NAME)
SEARCH = ObjectKey("shop", "search")
OLD, YOUNG = injected_pods.many_policies(2)


class Seen(Caches):
    """What was last seen; `found` is an EmbeddingInjection as written."""

    def __init__(self, *policies):
        self.given: list[dict[str, Any]] = list(policies)
        self.bounds = namespace_bounds.Bounds()
        self.found: dict[str, Any] | None = None
        self.about: dict[str, Any] | None = {"metadata": {"name": "shop"}}
        self.is_synced = True

    @property
    def synced(self):
        return self.is_synced

    def namespace(self, name):
        return self.about

    def policies_of(self, namespace):
        return self.given

    def bounds_of(self, namespace):
        return self.bounds

    def injection(self, namespace):
        return None if self.found is None else objects.injection(encode(self.found)).value()

    def injected_namespaces(self):
        return [KEY]


class Objects(KubeClient):
    """Writes, which are seen at once."""

    def __init__(self, seen):
        self.seen = seen
        self.written = []
        self.refuses: errors.OperatorError | None = None
        self.serves_it = True

    def apply(self, desired, *, is_new=False, manager=names.FIELD_MANAGER):
        if self.refuses is not None:
            raise self.refuses
        metadata = {**desired["metadata"], "uid": "u", "resourceVersion": "1"}
        self.seen.found = {**desired, "metadata": metadata}
        self.written.append(desired)
        return self.seen.found

    def delete(self, live):
        assert live["metadata"]["resourceVersion"] == "1"
        assert (live["apiVersion"], live["kind"]) == (names.API_VERSION, names.INJECTION_KIND)
        self.seen.found = None

    def serves(self, kind):
        if self.refuses is not None:
            raise self.refuses
        return self.serves_it


class World:
    def __init__(self, *policies):
        self.seen = Seen(*policies)
        self.objects = Objects(self.seen)
        self.seconds = 0.0
        self.told: list[str] = []
        self.reconciles = injection_reconciler.InjectionReconciler(
            objects=self.objects,
            free=self.objects,
            seen=self.seen,
            sidecar=pods.SIDECAR,
            deadline_seconds=60,
            changed=self.told.append,
            clock=lambda: self.seconds,
        )

    def run(self):
        return self.reconciles(KEY)


def test_object_holds_policies_by_age_with_hash_of_their_sidecars():
    world = World(YOUNG, OLD)
    world.run()
    (written,) = world.objects.written
    assert written["metadata"]["name"] == names.INJECTION_NAME
    assert [it["name"] for it in written["spec"]["policies"]] == ["policy-0", "policy-1"]
    (hash_0, hash_1) = (it["hash"] for it in written["spec"]["policies"])
    assert hash_0 != hash_1
    assert "ownerReferences" not in written["metadata"]


def test_object_without_change_is_not_written_again():
    world = World(OLD)
    world.run()
    world.run()
    assert len(world.objects.written) == 1
    world.seen.given = [OLD, YOUNG]
    world.run()
    assert len(world.objects.written) == 2


def limit_range(of, **limits):
    return namespace_bounds.Bounds(limit_ranges=[{"spec": {"limits": [{"type": of, **limits}]}}])


def test_amounts_of_policies_are_those_that_limit_ranges_permit():
    world = World(OLD)
    world.seen.bounds = limit_range("Container", max={"memory": "200Mi"})
    world.run()
    (policy,) = world.objects.written[0]["spec"]["policies"]
    for amounts in (policy["resources"], policy["guaranteed"]):
        assert amounts["limits"]["memory"] == str(200 * 1024**2)
    assert policy["guaranteed"]["requests"] == policy["guaranteed"]["limits"]
    assert "skipped" not in policy


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (limit_range("Container", max={"memory": "64Mi"}), "LimitRange"),
        (limit_range("Pod", max={"memory": "64Gi"}), "LimitRange"),
        (
            namespace_bounds.Bounds(
                quotas=[
                    {
                        "metadata": {"name": "small"},
                        "spec": {"hard": {"limits.memory": "1Gi"}},
                        "status": {
                            "hard": {"limits.memory": "1Gi"},
                            "used": {"limits.memory": "1000Mi"},
                        },
                    }
                ]
            ),
            "ResourceQuota",
        ),
    ],
    ids=["container", "pod", "quota"],
)
def test_policy_in_namespace_without_room_is_skipped_until_there_is(bounds, reason):
    world = World(OLD)
    world.seen.bounds = bounds
    world.run()
    (policy,) = world.objects.written[0]["spec"]["policies"]
    assert policy["skipped"] == reason
    assert "resources" not in policy
    world.seen.bounds = namespace_bounds.Bounds()
    world.run()
    (policy,) = world.objects.written[1]["spec"]["policies"]
    assert "skipped" not in policy


def test_replica_without_lease_writes_missing_object_and_changes_none():
    world = World(OLD)
    world.reconciles._objects = cast("Any", None)  # nothing is written by it
    world.reconciles.write_missing()
    assert len(world.objects.written) == 1
    assert world.reconciles.waits() is None
    world.seen.given = [OLD, YOUNG]
    world.reconciles.write_missing()
    assert len(world.objects.written) == 1


def test_object_that_replica_cannot_write_is_left_to_holder():
    world = World(OLD)
    world.objects.refuses = errors.Denied("no right")
    world.reconciles.write_missing()
    assert world.reconciles.problem("shop") is not None


def test_object_is_deleted_with_last_policy():
    world = World(OLD)
    world.run()
    world.seen.given = [{**OLD, "metadata": {**OLD["metadata"], "deletionTimestamp": "now"}}]
    world.run()
    assert world.seen.found is None
    world.run()


def test_namespace_that_is_being_deleted_is_left_alone():
    world = World(OLD)
    world.seen.about = {"metadata": {"name": "shop", "deletionTimestamp": "now"}}
    world.run()
    world.seen.about = None
    world.run()
    assert world.objects.written == []


def test_policy_is_injected_once_its_selector_was_seen():
    world = World(OLD)
    selector = OLD["spec"]["podSelector"]
    key = ObjectKey("shop", "policy-0")
    assert not world.reconciles.injects(key, selector)
    world.run()
    assert world.reconciles.injects(key, selector)
    assert world.reconciles.injects(key, {**selector, "matchExpressions": []})
    assert not world.reconciles.injects(key, {})
    assert not world.reconciles.injects(SEARCH, selector)


def test_failed_write_is_problem_until_one_succeeds():
    world = World(OLD)
    world.objects.refuses = errors.Denied("exceeded quota")
    with pytest.raises(errors.Denied):
        world.run()
    problem = world.reconciles.problem("shop")
    assert problem is not None
    assert problem.reason == "InjectionNotWritten"
    assert "exceeded quota" in problem.message
    assert world.reconciles.problem("other") is None
    world.objects.refuses = None
    world.run()
    assert world.reconciles.problem("shop") is None


def test_problem_that_comes_or_goes_is_told():
    """The event of a write that succeeds at last may come before the problem has gone."""
    world = World(OLD)
    world.run()
    assert world.told == []
    world.seen.given = [OLD, YOUNG]
    world.objects.refuses = errors.Denied("exceeded quota")
    for _ in range(2):
        with pytest.raises(errors.Denied):
            world.run()
    assert world.told == ["shop"]
    world.objects.refuses = None
    world.run()
    assert world.told == ["shop", "shop"]
    world.run()
    assert world.told == ["shop", "shop"]


def test_operator_waits_until_objects_are_written():
    world = World(OLD)
    assert world.reconciles.waits() is not None
    world.run()
    assert world.reconciles.waits() is None
    # It does not wait again, such as for a new namespace.
    world.seen.found = None
    assert world.reconciles.waits() is None


def test_operator_waits_for_list_of_objects():
    world = World()
    world.seen.is_synced = False
    assert world.reconciles.waits() is not None


def test_namespace_that_takes_no_object_is_not_waited_for():
    world = World(OLD)
    world.objects.refuses = errors.Unavailable("away")
    assert world.reconciles.waits() is not None
    world.seconds += injection_reconciler.COMPLETE_SECONDS + 1
    assert world.reconciles.waits() is None
    refused = World(OLD)
    refused.objects.refuses = errors.Denied("exceeded quota")
    with pytest.raises(errors.Denied):
        refused.run()
    assert refused.reconciles.waits() is None


def test_start_is_refused_where_server_cannot_inject():
    objects_ = Objects(Seen())
    injection_reconciler.check_served(objects_, is_needed=True)
    objects_.serves_it = False
    with pytest.raises(errors.Denied, match=r"INJECTION_BY: policy \(injection.by"):
        injection_reconciler.check_served(objects_, is_needed=True)
    injection_reconciler.check_served(objects_, is_needed=False)
    objects_.refuses = errors.Unavailable("away")
    injection_reconciler.check_served(objects_, is_needed=True)


def test_object_has_no_quantity_that_is_number():
    """The API server would write it as text, and the operator write it again and again."""
    own = {"resources": {"limits": {"cpu": 1}}}
    world = World({**OLD, "spec": {**OLD["spec"], "sidecar": own}})
    world.run()
    (written,) = world.objects.written
    (policy,) = written["spec"]["policies"]
    assert policy["resources"] == {"limits": {"cpu": "1"}}
    assert policy["guaranteed"]["limits"] == {"cpu": "1", "memory": "384Mi"}
    assert isinstance(pods.SIDECAR, injector.Sidecar)
