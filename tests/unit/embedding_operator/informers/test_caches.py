"""A change queues its policy, little is kept of it, and a lost watch is noticed."""

import json
import threading
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator.controller import workloads
from embedding_operator.informers import kept as keeping
from embedding_operator.informers import routes, sources
from embedding_operator.injection import selection
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import ObjectKey
from tests.parts.informing import SEARCH, UID, World
from tests.parts.waiting import eventually


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Queues are looked at without waiting for what is due later."""
    monkeypatch.setattr(routes, "UNCOVERED_SECONDS", 0.0)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def shop(world):
    """With a policy, and its pods listed."""
    world.policy()
    world.caches.pods.restart()
    world.caches.pods.fill("shop")
    return world


# --- policies


def test_status_that_was_written_is_no_reason_for_reconcile(world):
    assert world.policy(resourceVersion="1") == [SEARCH]
    assert world.policy(resourceVersion="2") == []
    assert world.policy(resourceVersion="3", annotations={"foreign": "x"}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2},
        {"annotations": {names.ANNOTATION_REFRESH: "now"}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"uid": "another"},
    ],
)
def test_all_that_reconcile_looks_at_is(world, change):
    world.policy()
    assert world.policy(**change) == [SEARCH]


def test_policy_that_goes_and_comes_is_looked_at_each_time(world):
    world.policy()
    assert world.policy("DELETED") == [SEARCH]
    assert world.policy("ADDED") == [SEARCH]


def test_refresh_annotation_is_kept_as_far_as_it_is_looked_at(world):
    world.policy(annotations={names.ANNOTATION_REFRESH: "x" * 250_000, "a": "b" * 250_000})
    kept = world.caches.policies.kept(*SEARCH)
    assert len(kept.content) < 1000


# --- what is owned


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kinds.CONFIG_MAP, names.document_configmap("search")),
        (kinds.CONFIG_MAP, names.environment_configmap("search")),
        (kinds.SECRET, names.owned_secret("search")),
        (kinds.SECRET, "any"),
        (kinds.PROMETHEUS_RULE, names.monitoring("search")),
        (kinds.POD_MONITOR, names.monitoring("search")),
    ],
)
def test_owned_object_that_changes_or_goes_queues_its_policy(world, kind, name):
    world.policy()
    assert world.owned(kind, name, version="7") == [SEARCH]
    assert world.owned(kind, name, version="8") == [SEARCH]
    assert world.owned(kind, name, "DELETED", version="9") == [SEARCH]


def test_object_that_lost_its_owner_queues_policy_once(world):
    world.policy()
    world.owned(kinds.SECRET, "any")
    assert world.owned(kinds.SECRET, "any", version="8", owners=[]) == [SEARCH]
    assert world.owned(kinds.SECRET, "any", version="9", owners=[]) == []


def test_operators_own_write_causes_no_reconcile(world):
    world.policy()
    world.api.written = {"7"}
    assert world.owned(kinds.SECRET, "any", version="7") == []
    assert world.owned(kinds.SECRET, "any", version="8") == [SEARCH]


def test_secrets_of_policy_are_those_that_it_owns(world):
    world.policy()
    world.owned(kinds.SECRET, "a")
    world.owned(kinds.SECRET, "b", uid="another")
    assert world.caches.owned_secrets("shop", "search") == ["a"]


@pytest.mark.parametrize(
    "forged",
    [
        {"owners": []},
        {"uid": "another"},
        {"owners": [{"apiVersion": "v1", "kind": names.KIND, "name": "search", "uid": UID}]},
        {"owners": [{"apiVersion": names.API_VERSION, "kind": "Pod", "name": "a", "uid": UID}]},
        {"owners": [{"apiVersion": "v1", "kind": "x", "name": "x" * 50, "uid": "u"}] * 1000},
    ],
)
def test_object_that_no_policy_owns_is_not_kept(world, forged):
    world.policy()
    assert world.owned(kinds.SECRET, "any", **forged) == []
    assert world.caches.owned[kinds.SECRET].keys() == []


def test_config_map_of_other_name_is_not_kept_for_any_owner(world):
    world.policy()
    for number in range(100):
        assert world.owned(kinds.CONFIG_MAP, f"mine-{number}") == []
    assert world.caches.owned[kinds.CONFIG_MAP].keys() == []


def test_echo_is_known_of_all_that_is_of_operator():
    assert {it.kind for it in sources.OWNED} == kinds.ECHOING


# --- indexes

ARTICLES = ObjectKey("shop", "articles")


def test_index_that_comes_changes_or_goes_queues_itself_and_its_policy(world):
    world.policy()
    for event, generation in (("ADDED", 1), ("MODIFIED", 2), ("DELETED", 2)):
        assert world.index(event, generation=generation) == [ARTICLES]
    world.caches.indexes.told("ADDED", keeping.encode(indexed()))
    assert world.queued() == [SEARCH]


def indexed(name="articles", **spec):
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-of-{name}", "generation": 1}
    return {"metadata": metadata, "spec": {"policyRef": {"name": "search"}, **spec}}


def test_status_of_index_that_was_written_is_no_reason_for_reconcile(world):
    world.index(resourceVersion="1")
    assert world.index(resourceVersion="2") == []
    assert world.index(annotations={names.ANNOTATION_DROP_TARGET: "a"}) == [ARTICLES]


def test_policy_that_changes_queues_its_indexes_alone(world):
    world.index()
    world.index(name="other", spec={"policyRef": {"name": "another"}})
    world.policy()
    assert world.queued_indexes() == [ARTICLES]


def test_deleted_index_queues_others_for_its_target(world):
    world.index()
    world.index(name="other")
    assert sorted(world.index("DELETED")) == [ARTICLES, ObjectKey("shop", "other")]


def test_pods_and_config_map_of_index_queue_it(shop):
    shop.index()
    labels = {names.LABEL_INDEX: "articles"}
    assert shop.pod(labels=labels) == []
    assert shop.queued_indexes() == [ARTICLES]
    shop.pod(labels={names.LABEL_INDEX: "unknown"}, ip="10.0.0.2")
    assert shop.queued_indexes() == [ARTICLES]  # which lost it
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.INDEX_KIND,
        "name": "articles",
        "uid": "uid-of-articles",
    }
    shop.owned(kinds.CONFIG_MAP, names.index_objects("articles"), owners=[owner])
    assert shop.queued_indexes() == [ARTICLES]
    shop.owned(kinds.CONFIG_MAP, "of-another-name", owners=[owner])
    assert shop.queued_indexes() == []
    assert shop.caches.owned[kinds.CONFIG_MAP].keys() == [("shop", names.index_objects("articles"))]


def test_little_is_kept_of_index_whatever_its_author_writes(world):
    rows = [{"column": "a", "operator": "=", "value": "x" * 1_000_000}]
    world.index(
        spec={"policyRef": {"name": "search"}, "rows": rows},
        annotations={names.ANNOTATION_DROP_TARGET: "x" * 200_000},
    )
    kept = world.caches.indexes.kept(*ARTICLES)
    assert len(kept.content) + len(kept.outline) < 5_000
    assert world.caches.index(*ARTICLES)["spec"] == {}


def test_indexes_of_policy_are_outlines(world):
    world.index()
    world.index(name="other", spec={"policyRef": {"name": "another"}})
    (outline,) = world.caches.indexes_of("shop", policy="search")
    assert outline["metadata"]["name"] == "articles"
    assert len(world.caches.indexes_of("shop")) == 2


# --- namespaces and pods


def test_namespace_that_comes_or_is_enabled_queues_its_policies(world):
    world.policy()
    assert world.namespace() == [SEARCH]
    assert world.namespace(labels={"foreign": "x"}, annotations={"a": "b"}) == []
    assert world.namespace(labels={names.LABEL_INJECTION: "enabled"}) == [SEARCH]
    assert world.caches.namespace("shop")["metadata"]["labels"] == {
        names.LABEL_INJECTION: "enabled"
    }


def test_pod_without_sidecar_that_comes_or_goes_queues_its_policies(shop):
    assert shop.pod() == [SEARCH]
    assert shop.pod(ip="10.0.0.2") == []
    assert shop.pod("DELETED", ip="10.0.0.2") == [SEARCH]


def test_pod_queues_policy_whose_sidecar_it_carries(shop):
    labels = {names.LABEL_INJECTED: "search"}
    assert shop.pod(labels=labels) == [SEARCH]
    assert shop.pod(labels=labels) == []
    assert shop.pod(labels=labels, ip="10.0.0.2") == [SEARCH]
    assert shop.pod("DELETED", labels=labels, ip="10.0.0.2") == [SEARCH]


@pytest.mark.parametrize(
    "large",
    [
        {"labels": {f"label-{number}": "x" * 50 for number in range(1000)}},
        {"spec": {"containers": [{"name": f"c-{number}"} for number in range(2000)]}},
    ],
)
def test_pod_of_more_than_can_be_kept_is_not(shop, large):
    shop.pod()
    assert len(shop.caches.pods_of("shop")) == 1
    shop.pod(**large)
    assert shop.caches.pods_of("shop") == []


def test_annotations_and_environment_of_pod_are_not_kept(shop):
    shop.pod(spec={"containers": [{"name": "a", "env": [{"name": "A", "value": "x" * 10**6}]}]})
    (kept,) = shop.caches.pods.of("shop")
    assert len(kept.content) < 1000


def test_namespace_that_is_enabled_queues_its_indexes(world):
    world.index()
    world.queued_indexes()
    world.namespace(labels={names.LABEL_INJECTION: "enabled"})
    assert world.queued_indexes() == [ARTICLES]


def test_pods_are_dropped_with_last_policy_of_namespace(shop):
    shop.policy(name="other", uid="o")
    shop.pod()
    shop.policy("DELETED")
    assert shop.caches.pods_of("shop") is not None
    shop.policy("DELETED", name="other", uid="o")
    assert shop.caches.pods_of("shop") is None


# --- workloads


def test_workloads_are_those_that_ask_and_of_them_what_restart_looks_at(world):
    env = [
        {"name": "A", "value": "x" * 100_000},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}},
    ]
    spec = {
        "replicas": 3,
        "template": {
            "metadata": {"labels": {"a": "b"}, "annotations": {names.ANNOTATION_SECRETS: "s"}},
            "spec": {
                "containers": [{"name": "a", "image": "a:1", "env": env}],
                "volumes": [{"name": "a", "emptyDir": {}}],
            },
        },
    }
    metadata = {"namespace": "shop", "uid": "u"}
    asking = {names.ANNOTATION_RESTART: "true", "foreign": "x" * 100_000}
    world.api.listed["deployments"] = [
        {"metadata": {**metadata, "name": "silent"}, "spec": spec},
        {"metadata": {**metadata, "name": "asking", "annotations": asking}, "spec": spec},
    ]
    (found,) = world.caches.workloads_of(kinds.DEPLOYMENT, "shop")
    assert found["metadata"] == {
        **metadata,
        "name": "asking",
        "annotations": {names.ANNOTATION_RESTART: "true"},
    }
    assert found["spec"]["template"]["metadata"]["annotations"] == {names.ANNOTATION_SECRETS: "s"}
    assert len(json.dumps(found)) < 1000
    held = {"database": {"metadata": {"uid": "1"}, "data": {"password": "cA=="}}}
    assert workloads.asks(found, held)


# --- run


def started(world):
    stopping = threading.Event()
    world.caches.start(stopping, deaf=world.deaf.append)
    return stopping


def test_caches_are_synced_once_all_required_kinds_are_listed(world):
    assert not world.caches.synced
    stopping = started(world)
    eventually(lambda: world.caches.synced)
    assert world.caches.server_version() == (1, 37)
    assert world.caches.watches.deaf() is None
    assert len(world.caches.watches.kinds) == 13
    assert all(world.caches.watches.is_watching(kind) for kind in world.caches.watches.kinds)
    stopping.set()
    world.caches.close()


@pytest.mark.parametrize("plural", [names.PLURAL, "namespaces", "configmaps", "secrets"])
def test_each_page_of_list_shows_that_reflector_is_not_stuck(world, plural):
    moved: list[str] = []
    (found,) = (it for it in world.caches.watches._reflectors if it.name == plural)
    found._relist(lambda: moved.append(plural))
    assert moved == [plural]


# --- Secrets that are named


def naming(**spec):
    """A policy that takes values from Secrets."""
    return {
        "metadata": {"name": "search", "namespace": "shop", "uid": UID, "generation": 1},
        "spec": {"podSelector": {}, **spec},
    }


def secret(name="keys", namespace="shop"):
    return keeping.encode({"metadata": {"name": name, "namespace": namespace}})


SOURCES: dict[str, dict[str, Any]] = {
    "a provider's key": {
        "providers": [{"apiKey": {"vault": {}}}, {"apiKey": {"secretKeyRef": {"name": "keys"}}}, {}]
    },
    "the cache's Redis": {"cache": {"redis": {"secretKeyRef": {"name": "keys"}}}},
    "the quota's Redis": {"quota": {"redis": {"secretKeyRef": {"name": "keys"}}}},
}


@pytest.mark.parametrize("event", ["ADDED", "MODIFIED", "DELETED"])
@pytest.mark.parametrize("spec", SOURCES.values(), ids=SOURCES)
def test_news_of_secret_that_policy_names_queues_it(world, spec, event):
    """C12: a changed Secret was looked at with the next resync only."""
    world.tell(world.caches.policies, "ADDED", naming(**spec))
    for other in (secret("others"), secret(namespace="books")):
        world.caches._named_secrets.told(event, other)
    assert world.queued() == []
    world.caches._named_secrets.told(event, secret())
    assert world.queued() == [SEARCH]


@pytest.mark.parametrize("field", ["dsnSecretRef", "caSecretRef"])
def test_news_of_secret_that_index_names_queues_it(world, field):
    """C12, a sibling."""
    database = {"dsnSecretRef": {"name": "dsn", "key": "dsn"}, field: {"name": "keys", "key": "k"}}
    world.index(spec={"policyRef": {"name": "search"}, "database": database})
    world.queued_indexes()
    world.caches._named_secrets.told("MODIFIED", secret())
    assert world.queued_indexes() == [ObjectKey("shop", "articles")]


def test_new_watch_of_secrets_queues_all_that_name_some(world):
    """C12, a sibling: nobody told of changes while there was none."""
    world.policy(name="other")
    world.tell(world.caches.policies, "ADDED", naming(**SOURCES["a provider's key"]))
    assert world.caches._named_secrets.restart() == "1"
    assert world.queued() == [SEARCH]


@pytest.mark.parametrize("plural", [names.PLURAL, "namespaces", "configmaps", "secrets", "pods"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watch_that_has_ended_is_noticed(world, plural):
    world.api.ends = plural
    stopping = started(world)
    eventually(lambda: world.caches.watches.deaf() == plural)
    stopping.set()
    world.caches.close()


def test_listed_policies_lack_fields_of_own_reconcile():
    """Each review of a pod reads all of them, and a tenant makes as many as they like."""
    world = World()
    selecting = {
        "podSelector": {"matchLabels": {"app": "search"}},
        "sidecar": {"resources": {"limits": {"memory": "1Gi"}}},
        "secrets": [{"name": "database"}],
    }
    raw: dict[str, Any] = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": "search",
            "namespace": "shop",
            "uid": UID,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            **selecting,
            "secrets": [{"name": "database", "data": {"a": "b" * 9000}}],
            "providers": [{"name": "a" * 9000}],
        },
        "status": {"conditions": [{"message": "m" * 9000}]},
    }
    world.caches.policies.told("ADDED", keeping.encode(raw))
    [found] = world.caches.policies_of("shop")
    assert found["spec"] == selecting
    assert found["metadata"].items() >= raw["metadata"].items()
    assert (found["apiVersion"], found["kind"]) == (names.API_VERSION, names.KIND)
    assert len(world.caches.policies.of("shop")[0].outline) < 1000


def test_outline_of_policy_says_that_identity_calls_provider(world):
    azure = {"deployment": "d", "tenantID": "t", "clientID": "c"}
    raw = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": "shop", "uid": UID},
        "spec": {"podSelector": {}, "providers": [{"name": "o"}, {"name": "a", "azure": azure}]},
    }
    world.caches.policies.told("ADDED", keeping.encode(raw))
    [found] = selection.candidates(world.caches.policies_of("shop"))
    assert found.has_identity


@pytest.mark.parametrize("azure", [{"tenantID": "t", "clientID": "c"}, {}, None])
def test_outline_of_policy_has_identity_of_its_class(world, azure):
    of_class = {"metadata": {"name": "azure", "uid": UID}, "spec": {"type": "AzureOpenAI"}}
    if azure is not None:
        of_class["spec"]["azure"] = azure
    raw = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": "shop", "uid": UID},
        "spec": {"podSelector": {}, "providers": [{"ref": "azure"}]},
    }
    world.caches.policies.told("ADDED", keeping.encode(raw))
    [before] = selection.candidates(world.caches.policies_of("shop"))
    world.caches.classes.told("ADDED", keeping.encode(of_class))
    [found] = selection.candidates(world.caches.policies_of("shop"))
    assert (before.has_identity, found.has_identity) == (False, bool(azure))
