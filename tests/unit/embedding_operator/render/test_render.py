"""The objects that a policy owns."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, names
from embedding_operator.kube import ownership
from embedding_operator.monitoring import rules
from embedding_operator.policy import policy
from embedding_operator.render import configmaps, monitoring, secrets
from tests.parts import policies

POLICY = policies.parsed()
OWNED = names.owned_secret(POLICY.name)
OBJECTS = {
    "environment": configmaps.environment(POLICY),
    "owned secret": secrets.of(POLICY, OWNED, {"api-token": b"t"}),
    "document": configmaps.policy_document(POLICY, policy.to_document(POLICY)),
    "synced secret": secrets.of(POLICY, "app", {"A": b"a"}),
    "rule": monitoring.prometheus_rule(POLICY),
    "monitor": monitoring.pod_monitor(POLICY),
}


@pytest.mark.parametrize("made", OBJECTS.values(), ids=OBJECTS)
def test_every_object_goes_with_its_policy(made):
    (owner,) = made["metadata"]["ownerReferences"]
    assert owner["uid"] == "uid-1"
    assert (owner["apiVersion"], owner["kind"]) == (names.API_VERSION, names.KIND)
    assert owner["name"] == "search"
    assert owner["controller"] is True
    # A policy's deletion waits for nothing, and the operator needs no right on finalizers.
    assert owner["blockOwnerDeletion"] is False
    assert ownership.is_ours(made, POLICY)


@pytest.mark.parametrize("made", OBJECTS.values(), ids=OBJECTS)
def test_every_object_says_whose_it_is_and_can_be_watched_by_label(made):
    assert made["metadata"]["namespace"] == "shop"
    labels = made["metadata"]["labels"]
    assert labels[names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert labels[names.LABEL_POLICY] == "search"


def test_labels_of_policy_do_not_replace_ours():
    labels = {names.LABEL_MANAGED_BY: "me", "release": "monitoring"}
    made = ownership.metadata(POLICY, "x", labels=labels)["labels"]
    assert made[names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert made["release"] == "monitoring"


def test_no_two_objects_of_one_kind_have_one_name():
    found = [(made["kind"], made["metadata"]["name"]) for made in OBJECTS.values()]
    assert len(set(found)) == len(found)


def test_application_is_told_three_things_and_no_secret():
    made = configmaps.environment(POLICY)
    assert made["metadata"]["name"] == "embedding-search-environment"
    assert made["data"] == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8484/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:8484/v1",
        "OPENAI_API_KEY": names.PLACEHOLDER_KEY,
    }


def test_environment_of_all_policies_is_same():
    other = policies.parsed(providers=[policies.compatible("e5")])
    assert configmaps.environment(other)["data"] == configmaps.environment(POLICY)["data"]


def test_document_stands_under_key_that_sidecars_mount():
    made = configmaps.policy_document(POLICY, policy.to_document(POLICY))
    assert made["metadata"]["name"] == names.document_configmap("search")
    assert made["data"].keys() == {names.DOCUMENT_KEY}
    assert document.parse(made["data"][names.DOCUMENT_KEY]).scope == "shop/search"


@given(st.dictionaries(st.from_regex(r"[-._a-zA-Z0-9]{1,20}", fullmatch=True), st.binary()))
def test_secret_gives_back_what_was_put_in(values):
    made = secrets.of(POLICY, OWNED, values)
    assert made["metadata"]["name"] == "embedding-search"
    assert secrets.decode(made) == values
    assert all(base64.b64decode(text, validate=True) is not None for text in made["data"].values())


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=5)))
def test_order_of_values_makes_no_other_secret(values):
    backwards = dict(reversed(values.items()))
    assert list(secrets.of(POLICY, OWNED, values)["data"]) == list(
        secrets.of(POLICY, OWNED, backwards)["data"]
    )


@pytest.mark.parametrize("found", [None, {}, {"data": None}])
def test_absent_secret_has_no_entries(found):
    assert secrets.decode(found) == {}


def standing(*owners, managers=()):
    return {
        "metadata": {
            "ownerReferences": list(owners),
            "managedFields": [{"manager": manager} for manager in managers],
        }
    }


THEIRS = {"kind": "ExternalSecret", "name": "keys", "uid": "uid-2", "controller": True}


def test_object_of_another_controller_is_not_ours_and_says_whose():
    found = standing({**THEIRS, "controller": False, "name": "guest"}, THEIRS)
    assert not ownership.is_ours(found, POLICY)
    assert ownership.owner_of(found) == "ExternalSecret keys"


def test_object_made_by_hand_is_not_ours_and_says_with_what():
    found = standing(managers=["kubectl-create"])
    assert not ownership.is_ours(found, POLICY)
    assert "kubectl-create" in ownership.owner_of(found)


def test_object_of_policy_of_same_name_that_was_deleted_is_not_ours():
    """Names come again, uids do not: the garbage collector is about to take it."""
    before = {"kind": names.KIND, "name": "search", "uid": "uid-0", "controller": True}
    assert not ownership.is_ours(standing(before), POLICY)


def test_object_without_owner_traces_is_somebody_elses():
    assert ownership.owner_of({"metadata": {}}) == "another owner"


def test_pod_monitor_takes_pods_of_policy_and_labels_each_series():
    spec = monitoring.pod_monitor(POLICY)["spec"]
    assert spec["selector"] == {"matchLabels": {names.LABEL_INJECTED: "search"}}
    endpoint = spec["podMetricsEndpoints"][0]
    assert (endpoint["port"], endpoint["path"]) == (names.ADMIN_PORT_NAME, names.PATH_METRICS)
    relabeling = endpoint["relabelings"][0]
    assert relabeling["targetLabel"] == "policy"
    # Prometheus, "kubernetes_sd_config": what a label's name cannot have becomes an underscore.
    label = "__meta_kubernetes_pod_label_embedding_agenticverz_io_injected"
    assert relabeling["sourceLabels"] == [label]


def test_index_container_is_scraped_apart_from_its_sidecar():
    sidecar, vectors = monitoring.pod_monitor(POLICY)["spec"]["podMetricsEndpoints"]
    assert vectors["port"] == names.VECTORS_PORT_NAME
    label = "__meta_kubernetes_pod_label_embedding_agenticverz_io_index"
    indexed = {"action": "replace", "sourceLabels": [label], "targetLabel": "index"}
    assert vectors["relabelings"] == [*sidecar["relabelings"], indexed]
    # Or a sidecar that is down would not be missed.
    assert 'index=""' in rules.UP


def test_groups_of_rules_of_two_policies_have_two_names():
    groups = monitoring.prometheus_rule(POLICY)["spec"]["groups"]
    assert [it["name"] for it in groups] == [
        "shop.embedding-search",
        "shop.embedding-search:records",
    ]


CONTROLLERS = [
    ("ReplicaSet", "web-7d4b9c6f5d", "web"),
    ("ReplicaSet", "web-api-2-7d4b9c6f5d", "web-api-2"),
    ("StatefulSet", "store", "store"),
    ("DaemonSet", "agent-7d4b9", "agent-7d4b9"),
    ("Job", "backfill-28912345", "backfill"),
    ("Job", "backfill-7", "backfill-7"),
]


@pytest.mark.parametrize(("kind", "name", "workload"), CONTROLLERS)
def test_series_carry_workload_of_their_pod(kind, name, workload):
    labels = {"__meta_kubernetes_pod_controller_kind": kind}
    labels["__meta_kubernetes_pod_controller_name"] = name
    for it in monitoring.RELABELINGS:
        read = ";".join(labels.get(label, "") for label in it["sourceLabels"])
        found = re.fullmatch(str(it.get("regex", "(.*)")), read)
        if found:
            labels[str(it["targetLabel"])] = found[1]
    assert labels["workload"] == workload
