"""An object that no watch has shown is created by one request, and no other is changed by it."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator.controller import application_secrets, credentials
from embedding_operator.kube import apply, kinds
from embedding_operator.kube.current_reads import CurrentReads, Unwatched
from embedding_operator.policy import policy as parsed
from embedding_operator.render import configmaps, secrets
from tests.parts import policies, reconciling

pytestmark = [pytest.mark.cluster, pytest.mark.integration]


class Blind(Unwatched):
    """Watches of our objects that run and show none."""

    def shows_none(self, *_):
        return True


class Counting(reconciling.Administrator):
    """Counts reads of single objects."""

    reads = 0

    def get(self, *place):
        self.reads += 1
        return super().get(*place)


@pytest.fixture
def objects(api_server):
    return Counting(api_server.kubeconfig)


@pytest.fixture
def policy(objects, namespace):
    """A policy that is there, so that no garbage collection deletes its objects."""
    raw = {**policies.everything(), "metadata": {"name": "search"}}
    return parsed.parse(objects.create(kinds.POLICY, namespace, raw))


@pytest.fixture
def reads(objects):
    return CurrentReads(objects.get, changes=Blind())


@pytest.fixture
def applier(objects, reads):
    return apply.ObjectApplier(objects=objects, reads=reads, drifted=lambda _: None)


@pytest.fixture
def ensure(applier, policy):
    """Ensures an object of the policy, as a reconcile does."""
    return lambda desired: applier.ensure_read(policy, desired)


def test_new_object_is_created_without_read(objects, ensure, policy, namespace):
    desired = configmaps.environment(policy)
    live, problem = ensure(desired)
    assert problem is None
    assert objects.reads == 0
    found = objects.get(kinds.CONFIG_MAP, namespace, desired["metadata"]["name"])
    assert (found, found["data"]) == (live, desired["data"])
    (manager,) = found["metadata"]["managedFields"]
    assert (manager["manager"], manager["operation"]) == (names.FIELD_MANAGER, "Apply")


@pytest.mark.parametrize("data", [{}, {"theirs": "1"}])
def test_object_of_somebody_else_is_not_changed(objects, ensure, policy, namespace, data):
    desired = configmaps.environment(policy)
    name = desired["metadata"]["name"]
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    before = objects.create(kinds.CONFIG_MAP, namespace, foreign)
    for _ in range(2):
        live, problem = ensure(desired)
        assert live is None
        assert problem.reason == "ForeignObject"
    assert objects.get(kinds.CONFIG_MAP, namespace, name) == before


def test_object_of_ours_that_lost_its_label_is_read_and_repaired(objects, ensure, policy):
    desired = configmaps.environment(policy)
    labels = desired["metadata"]["labels"]
    bare = {**desired, "metadata": {**desired["metadata"], "labels": {}}}
    objects.apply(bare)
    live, problem = ensure(desired)
    assert problem is None
    assert live["metadata"]["labels"] == labels


def test_secret_that_lost_its_labels_is_deleted_as_vault_has_none(
    objects, applier, reads, policy, namespace
):
    entry = dataclasses.replace(policy.secrets[0], deletes=True)
    wanted = dataclasses.replace(policy, secrets=(entry,))
    made = secrets.of_entry(wanted, entry, {"password": b"pw"})
    objects.apply({**made, "metadata": {**made["metadata"], "labels": {}}})
    seen: Any = SimpleNamespace(reads=reads, owned_secrets=lambda *_: [])
    found: Any = SimpleNamespace(synced=lambda *_: credentials.Found(values={}, gone=True))
    kept = application_secrets.ApplicationSecrets(
        objects=objects,
        seen=seen,
        found=found,
        kept=applier,
        changing=lambda _: None,
    )
    assert kept.apply(wanted).deleted == (entry.name,)
    assert objects.get(kinds.SECRET, namespace, entry.name) is None
