"""The parts of a run that decide something, without a server."""

import json

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import pacing
from tests.scale import bare, edits, pods, rounds, sidecars

DOCUMENT = {"name": "search", "quota": {"daily": {"requests": 5, "tokens": 7}}}
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": "shop", "name": "search-document"},
    "data": {names.DOCUMENT_KEY: json.dumps(DOCUMENT)},
}


@pytest.mark.parametrize("document", [DOCUMENT, {"name": "search"}, {"quota": None}])
def test_number_is_read_from_document_it_was_written_into(document):
    held = {**CONFIG_MAP, "data": {names.DOCUMENT_KEY: json.dumps(document), "other": "x"}}
    made = edits.with_number(held, "1001")["data"]
    assert edits.number_of(json.loads(made[names.DOCUMENT_KEY])) == "1001"
    assert made["other"] == "x"


def test_document_without_quota_has_no_number():
    assert edits.number_of({"name": "search"}) == edits.NONE


def test_answers_come_in_order_of_requests():
    assert pacing.paced(str, range(20), a_second=10_000, threads=4) == [*map(str, range(20))]


def test_status_of_bare_client_is_another_than_stands():
    """An equal one would not be written."""
    policy = {
        "metadata": {"namespace": "shop", "name": "search"},
        "status": {"observedGeneration": 3, "conditions": []},
    }
    sent = bare.changed_status(policy)
    assert sent.path.endswith("/namespaces/shop/embeddingpolicies/search/status")
    assert sent.body == {"status": {"observedGeneration": 4, "conditions": []}}


def test_object_of_bare_client_has_nothing_of_server():
    read = {"metadata": {"name": "a", "namespace": "b", "uid": "u", "managedFields": []}}
    made = bare.desired(kinds.SECRET, {**read, "data": {"k": "dg=="}})
    assert made == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a", "namespace": "b"},
        "data": {"k": "dg=="},
    }


def policy(*, generation=2, observed=2, in_force=3, **conditions):
    listed = [{"type": name, "status": status} for name, status in conditions.items()]
    return {
        "metadata": {"generation": generation},
        "spec": {"quota": {"daily": {"requests": 9}}},
        "status": {
            "observedGeneration": observed,
            "conditions": listed,
            "pods": {"inForce": in_force},
        },
    }


def watch(kind, **fields):
    """One that watches nothing."""
    made = object.__new__(kind)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_policy_is_ready_in_its_present_generation_only():
    ready = watch(rounds.Readiness)
    assert ready.value_of(policy(Ready="True")) == rounds.READY
    assert ready.value_of(policy(Ready="False")) is None
    assert ready.value_of(policy(Ready="True", observed=1)) is None
    assert ready.value_of({"metadata": {"generation": 1}}) is None


def test_edit_is_in_force_in_all_pods_only():
    found = watch(pods.InForce, _pods_of_each=3)
    assert found.value_of(policy(ConfigInForce="True")) == "9"
    assert found.value_of(policy(ConfigInForce="Unknown")) is None
    assert found.value_of(policy(ConfigInForce="True", in_force=2)) is None
    assert found.value_of(policy(ConfigInForce="True", observed=1)) is None


def test_played_pod_changes_by_its_nudge_and_not_before_it_has_address():
    found = watch(sidecars.Pods)
    running = {"metadata": {}, "status": {"podIP": "127.64.0.1"}}
    nudged = {
        "metadata": {"annotations": {names.ANNOTATION_NUDGE: "n"}},
        "status": running["status"],
    }
    assert found.value_of({"metadata": {}, "status": {}}) is None
    assert found.value_of(running) != found.value_of(nudged) == "n"
