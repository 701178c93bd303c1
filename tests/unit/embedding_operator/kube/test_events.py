"""Events are for people, and nothing depends on one."""

import logging

import pytest

from embedding_operator import errors
from embedding_operator.kube import events, kinds
from embedding_operator.kube.client import KubeClient

POLICY = {
    "apiVersion": "embedding.agenticverz.io/v1alpha1",
    "kind": "EmbeddingPolicy",
    "metadata": {"name": "search", "namespace": "shop", "uid": "uid-1"},
}


class Creates(KubeClient):
    def __init__(self, refusal=None):
        self.made = []
        self._refusal = refusal

    def create(self, kind, namespace, body):
        if self._refusal is not None:
            raise self._refusal
        self.made.append((kind, namespace, body))
        return body


def recorded(message="why", *, warning=True):
    creates = Creates()
    told = events.EventRecorder(objects=creates)
    told.record(POLICY, warning=warning, reason="VaultSealed", message=message)
    ((kind, namespace, body),) = creates.made
    assert (kind, namespace) == (kinds.EVENT, "shop")
    return body


def test_event_is_about_its_policy_and_stands_in_its_namespace():
    body = recorded()
    about = body["involvedObject"]
    assert (about["kind"], about["name"], about["uid"]) == ("EmbeddingPolicy", "search", "uid-1")
    assert body["metadata"]["namespace"] == "shop"
    assert (body["reason"], body["message"]) == ("VaultSealed", "why")


def test_failure_is_event_of_type_warning():
    assert recorded(warning=True)["type"] == "Warning"
    assert recorded(warning=False)["type"] == "Normal"


def test_long_message_is_cut_to_what_api_server_takes():
    assert len(recorded("x" * 5000)["message"]) == 1024


def test_two_events_have_two_names():
    assert recorded()["metadata"]["name"] != recorded()["metadata"]["name"]


@pytest.mark.parametrize("refusal", [errors.Denied("no"), errors.Unavailable("away")])
def test_event_that_cannot_be_written_is_logged_and_lost(refusal, caplog):
    caplog.set_level(logging.INFO)
    told = events.EventRecorder(objects=Creates(refusal))
    told.record(POLICY, warning=True, reason="VaultSealed", message="why")
    assert "VaultSealed" in caplog.text
