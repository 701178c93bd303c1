"""A reconcile that ends early leaves no figure of an earlier one."""

from typing import Any, cast

import pytest

from embedding_contract import names
from embedding_operator.controller.reconciler import Reconciler
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import ObjectKey
from tests.parts import reconciling

KEY = ObjectKey("shop", "search")
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search", "namespace": "shop", "uid": "u", "generation": 1},
    "spec": {},
}
SHOP = {"metadata": {"name": "shop", "uid": "n"}}
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


class World:
    """One policy in one namespace, as both were last seen; a write of its status is answered."""

    def __init__(self, *, policy: Any, namespace: Any):
        self.seen_policy = policy
        self.seen_namespace = namespace
        self.statuses: list[Any] = []
        self.reads = CurrentReads(self.get)

    def policy(self, namespace, name):
        return self.seen_policy

    def namespace(self, name):
        return self.seen_namespace

    def provider_class(self, name):
        return None

    def get(self, kind, namespace, name):
        return None

    def wrote_policy(self, answer):
        pass

    def patch_status(self, namespace, name, patch):
        self.statuses.append(patch)
        return self.seen_policy


def going(found):
    return {**found, "metadata": {**found["metadata"], **GOING}}


@pytest.mark.parametrize(
    ("policy", "namespace", "told"),
    [
        (None, SHOP, 0),
        (going(POLICY), SHOP, 0),
        (POLICY, None, 0),
        (POLICY, going(SHOP), 0),
        (POLICY, SHOP, 1),  # without providers, as the schema would not admit it
    ],
    ids=["no policy", "going", "no namespace", "its namespace goes", "invalid"],
)
def test_pods_uncovered_are_none_while_policys_pods_are_not_looked_at(policy, namespace, told):
    world = World(policy=policy, namespace=namespace)
    uncovered = {KEY: 3}
    objects = cast("Any", world)
    reconciler = Reconciler(
        objects=objects,
        seen=cast("Any", world),
        store=None,
        asked=reconciling.Sidecars(),
        events=reconciling.Events(),
        sidecar=reconciling.SIDECAR,
        poll_seconds=60,
        deadline_seconds=60,
        namespace="embedding-system",
        drifted=lambda _: None,
        restarts=cast("Any", Restarts()),
        monitoring=reconciling.no_monitoring(),
        covers=uncovered.__setitem__,
    )
    assert reconciler(KEY) is None
    assert uncovered == {KEY: 0}
    assert len(world.statuses) == told


class Restarts:
    """Restarts nothing."""

    def secret_changes(self, *_: Any) -> None:
        """It is nothing to it."""
