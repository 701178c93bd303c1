"""A change of a provider class, its Secret or a namespace's labels queues who depends on it."""

import pytest

from embedding_contract import names
from embedding_operator.informers import kept as keeping
from embedding_operator.informers.kept import FOREIGN_BYTES
from embedding_operator.kube.kinds import ObjectKey
from tests.parts.informing import SEARCH, World

OPENAI = ObjectKey("", "openai")
ARTICLES = ObjectKey("shop", "articles")
REF = {"podSelector": {}, "providers": [{"ref": "openai"}]}
OWN = {"podSelector": {}, "providers": [{"name": "own"}]}
KEY = {"secretKeyRef": {"name": "keys", "key": "k"}}


@pytest.fixture
def world():
    """A policy that uses the class `openai`, an index of it, and a policy without a class."""
    made = World()
    made.policy(spec=REF)
    made.policy(name="other", uid="other", spec=OWN)
    made.index()
    settle(made)
    return made


def settle(world):
    """Take what is queued; policies, indexes and classes."""
    return world.queued(), world.queued_indexes(), world.queued_classes()


def provider_class(world, event="MODIFIED", *, generation=1, version="1", **spec):
    metadata = {"name": "openai", "uid": "c", "generation": generation, "resourceVersion": version}
    found = {"metadata": metadata, "spec": {"type": "OpenAI", **spec}}
    world.caches.classes.told(event, keeping.encode(found))
    return settle(world)


EVERYONE = ([SEARCH], [ARTICLES], [OPENAI])


def test_class_that_comes_changes_or_goes_queues_its_policies(world):
    assert provider_class(world, "ADDED") == EVERYONE
    assert provider_class(world, generation=2) == EVERYONE
    assert provider_class(world, "DELETED", generation=2) == EVERYONE


def test_status_of_class_that_was_written_is_no_reason_for_reconcile(world):
    provider_class(world, "ADDED")
    assert provider_class(world, version="2") == ([], [], [])


def test_policy_that_changes_queues_classes_of_before_and_after(world):
    world.policy(spec={"providers": [{"ref": "azure"}]}, generation=2)
    assert sorted(world.queued_classes()) == [ObjectKey("", "azure"), OPENAI]
    assert world.caches.users_of_class("openai") == []
    assert world.caches.users_of_class("azure") == [SEARCH]


@pytest.mark.parametrize("field", ["apiKey", "redis"])
def test_news_of_secret_that_class_names_queues_its_policies(world, field):
    provider_class(world, **{field: KEY})
    secrets = world.caches._named_secrets
    secrets.told("MODIFIED", secret("keys", "embedding-system"))
    assert settle(world) == EVERYONE
    for other in (secret("keys", "shop"), secret("others", "embedding-system")):
        secrets.told("MODIFIED", other)
        assert settle(world) == ([], [], [])


def secret(name, namespace):
    return keeping.encode({"metadata": {"name": name, "namespace": namespace}})


def test_namespaces_label_queues_policies_that_use_class_and_no_others(world):
    world.namespace(labels={"team": "shop"})
    settle(world)
    world.caches.namespaces.told("MODIFIED", namespace(labels={"team": "books"}))
    assert settle(world) == EVERYONE
    world.caches.namespaces.told("MODIFIED", namespace(labels={names.LABEL_INJECTION: "enabled"}))
    queued, _, _ = settle(world)
    assert set(queued) == {SEARCH, ObjectKey("shop", "other")}


def namespace(**metadata):
    return keeping.encode({"metadata": {"name": "shop", **metadata}})


def test_labels_of_namespace_are_kept_up_to_bound(world):
    label = {names.LABEL_INJECTION: "enabled", "team": "shop"}
    world.namespace(labels=label)
    kept = world.caches.namespace("shop")["metadata"]
    assert kept["labels"] == label
    assert "labels_unknown" not in kept
    world.namespace(labels={**label, "x": "x" * FOREIGN_BYTES})
    kept = world.caches.namespace("shop")["metadata"]
    assert kept["labels"] == {names.LABEL_INJECTION: "enabled"}
    assert kept["labelsUnknown"] is True


def test_class_is_kept_whole_without_foreign_metadata(world):
    metadata = {"name": "openai", "annotations": {"a": "b" * 1000}, "managedFields": [{"x": 1}]}
    found = {"metadata": metadata, "spec": {"type": "OpenAI"}, "status": {"policies": 1}}
    world.caches.classes.told("ADDED", keeping.encode(found))
    kept = world.caches.provider_class("openai")
    assert kept["spec"] == {"type": "OpenAI"}
    assert kept["status"] == {"policies": 1}
    assert "annotations" not in kept["metadata"]
