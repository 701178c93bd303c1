"""Events of pods without a sidecar: only for pods that exist, verified, and bounded."""

import pytest

from embedding_contract import names
from embedding_operator.injection import skipped_pods

POLICY = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search", "namespace": "shop", "uid": "p"},
}


class Recorder:
    """Keeps events."""

    def __init__(self):
        self.events = []

    def record(self, about, *, warning, reason, message):
        assert warning
        self.events.append((about, reason, message))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told(recorder, clock):
    return skipped_pods.SkippedPods(events=recorder, clock=clock)


def pod(kind="ReplicaSet", name="search-5b7c"):
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": True}
    return {"metadata": {"ownerReferences": [owner]}, "spec": {}}


def skip(told, *, about=POLICY, of=None, reason="HostNetwork"):
    told.skipped(about, pod=of or pod(), reason=reason, message="on the host network")


def test_event_is_about_policy_and_names_owner(told, recorder):
    skip(told)
    ((about, reason, message),) = recorder.events
    assert (about["kind"], about["metadata"]["uid"]) == (names.KIND, "p")
    assert reason == "EmbeddingSidecarHostNetwork"
    assert message.startswith("ReplicaSet search-5b7c: ")


def test_creator_of_skipped_pods_gets_one_event_for_all(told, recorder):
    for _ in range(3):
        skip(told)
    skip(told, reason="Windows")
    assert len(recorder.events) == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ReplicaSet", "a" * 254), ("ReplicaSet", "a\nb"), ("Replica Set", "a"), ("K" * 64, "a")],
)
def test_owner_that_cannot_be_one_is_not_named(told, recorder, kind, name):
    skip(told, of=pod(kind, name))
    ((_, _, message),) = recorder.events
    assert message.startswith("a pod: ")


def test_namespace_has_bounded_events_and_takes_none_of_others(told, recorder, clock):
    most = skipped_pods.MOST_OF_A_NAMESPACE
    for number in range(150):
        skip(told, of=pod(name=f"forged-{number}"))
    other = {**POLICY, "metadata": {"name": "search", "namespace": "books", "uid": "q"}}
    skip(told, about=other)
    assert len(recorder.events) == most + 1
    clock.now += skipped_pods.PERIOD_SECONDS
    skip(told, of=pod(name="later"))
    assert len(recorder.events) == most + 2


def test_about_what_nobody_has_seen_there_is_no_event(told, recorder):
    skip(told, about={"metadata": {}})
    skip(told)
    assert len(recorder.events) == 1
