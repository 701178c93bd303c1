"""Events are for people, and nothing depends on one."""

import logging
import threading

import pytest

from embedding_operator import errors
from embedding_operator.kube import events, kinds
from embedding_operator.kube.client import KubeClient

POLICY = {
    "apiVersion": "embedding.agenticverz.io/v1alpha1",
    "kind": "EmbeddingPolicy",
    "metadata": {"name": "search", "namespace": "shop", "uid": "uid-1"},
}


PATIENCE_SECONDS = 10


class Creates(KubeClient):
    """Each `create` waits for `answers`."""

    def __init__(self, refusal=None):
        self.made = []
        self.asked = threading.Semaphore(0)
        self.answers = threading.Event()
        self.answers.set()
        self._refusal = refusal

    def create(self, kind, namespace, body):
        self.asked.release()
        assert self.answers.wait(PATIENCE_SECONDS)
        if self._refusal is not None:
            raise self._refusal
        self.made.append((kind, namespace, body))
        return body


def written(creates, *, message="why", warning=True):
    told = events.EventRecorder(objects=creates).start()
    told.record(POLICY, warning=warning, reason="VaultSealed", message=message)
    told.close(within_seconds=PATIENCE_SECONDS)


def recorded(message="why", *, warning=True):
    creates = Creates()
    written(creates, message=message, warning=warning)
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
    written(Creates(refusal))
    assert "event VaultSealed of search not written" in caplog.text


def test_fault_of_program_ends_no_writing(caplog):
    creates = Creates(ZeroDivisionError())
    told = events.EventRecorder(objects=creates).start()
    for _ in range(2):
        told.record(POLICY, warning=True, reason="VaultSealed", message="why")
    told.close(within_seconds=PATIENCE_SECONDS)
    assert caplog.text.count("ZeroDivisionError") == 2


def test_event_waits_for_no_answer():
    creates = Creates()
    creates.answers.clear()
    told = events.EventRecorder(objects=creates).start()
    for number in range(3):
        told.record(POLICY, warning=True, reason="VaultSealed", message=str(number))
    assert creates.asked.acquire(timeout=PATIENCE_SECONDS)
    creates.answers.set()
    told.close(within_seconds=PATIENCE_SECONDS)
    assert [body["message"] for _, _, body in creates.made] == ["0", "1", "2"]


def test_event_behind_too_many_is_logged_and_lost(monkeypatch, caplog):
    monkeypatch.setattr(events, "MOST_WAITING", 2)
    caplog.set_level(logging.INFO)
    told = events.EventRecorder(objects=Creates())
    for number in range(3):
        told.record(POLICY, warning=True, reason=f"Number{number}", message="why")
    assert "event Number2 of search not written: 2 others wait" in caplog.text
    assert "Number1" not in caplog.text


def test_close_takes_no_longer_than_it_may():
    creates = Creates()
    creates.answers.clear()
    told = events.EventRecorder(objects=creates).start()
    told.record(POLICY, warning=True, reason="VaultSealed", message="why")
    told.close(within_seconds=0.01)
    assert creates.made == []
    creates.answers.set()


def test_recorder_that_never_started_closes_at_once():
    events.EventRecorder(objects=Creates()).close(within_seconds=PATIENCE_SECONDS)
