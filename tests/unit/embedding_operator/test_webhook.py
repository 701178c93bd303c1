"""The admission webhook's answers."""

import asyncio
import threading

import pytest

from embedding_contract import names
from embedding_operator import cluster, errors, injector, selection, webhook

SIDECAR = injector.Sidecar(image="example/sidecar:1", pull_policy="Always", resources={})
POLICY = {
    "metadata": {"name": "search", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"podSelector": {}},
}
OWNER = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "name": "search-5b7c",
    "uid": "1",
    "controller": True,
}


class World:
    """A cluster of one namespace; `error` is raised by every read."""

    def __init__(self, *, policies=(POLICY,), labels=None, error=None, version=(1, 37)):
        self.policies = list(policies)
        self.labels = {names.LABEL_INJECTION: "enabled"} if labels is None else labels
        self.error = error
        self.server_version = version
        self.asked = []

    def get(self, kind, namespace, name):
        self.asked.append((kind, name))
        if self.error is not None:
            raise self.error
        return {"metadata": {"name": name, "labels": self.labels}}

    def find(self, kind, namespace=None):
        self.asked.append((kind, namespace))
        return self.policies

    def version(self):
        return self.server_version


class Recorder:
    """Keeps events and counts."""

    def __init__(self):
        self.events = []
        self.counted = []
        self.recorded = threading.Event()

    def record(self, about, *, warning, reason, message):
        self.events.append((about["kind"], about["metadata"]["name"], reason))
        self.recorded.set()

    def injected(self, *, result, reason):
        self.counted.append((result, reason))


@pytest.fixture
def recorder():
    return Recorder()


def pod(*, owner=None, **spec):
    metadata: dict[str, object] = {"generateName": "search-"}
    if owner:
        metadata["ownerReferences"] = [owner]
    return {"metadata": metadata, "spec": {"containers": [{"name": "app"}], **spec}}


def made(world, recorder):
    return webhook.Webhook(reads=world, sidecar=SIDECAR, records=recorder, counts=recorder)


def ask(world, recorder, a_pod, *, dry_run=False, hook=None):
    asked = hook or made(world, recorder)
    return asyncio.run(asked.answer(a_pod, namespace="shop", dry_run=dry_run))


def test_a_covered_pod_gets_its_sidecar(recorder):
    answer = ask(World(), recorder, pod())
    assert selection.carries_sidecar(answer.pod)
    assert answer.warnings == ()
    assert recorder.counted == [("injected", "")]


def test_it_reads_the_pods_own_namespace_and_its_policies(recorder):
    world = World()
    ask(world, recorder, pod())
    assert world.asked == [(cluster.NAMESPACE, "shop"), (cluster.POLICY, "shop")]


def test_asked_again_it_changes_nothing(recorder):
    first = ask(World(), recorder, pod())
    again = ask(World(), recorder, first.pod)
    assert again == first
    assert recorder.counted[-1] == ("kept", "")


@pytest.mark.parametrize(
    "error",
    [errors.Unavailable("away"), errors.Denied("no"), KeyError("spec"), RuntimeError("a bug")],
)
def test_whatever_goes_wrong_the_pod_is_created_as_it_came(recorder, error):
    answer = ask(World(error=error), recorder, pod())
    assert answer.pod == pod()
    assert type(error).__name__ in answer.warnings[0]
    assert recorder.counted == [("failed", type(error).__name__)]


def test_a_policy_of_nonsense_is_no_reason_to_stop_a_pod(recorder):
    nonsense = {"metadata": {"name": "search"}, "spec": {"podSelector": "everything"}}
    answer = ask(World(policies=[nonsense]), recorder, pod())
    assert answer.pod == pod()
    assert recorder.counted[0][0] == "failed"


def test_a_pod_does_not_wait_for_an_api_server_that_hangs(recorder, monkeypatch):
    monkeypatch.setattr(webhook, "BUDGET_SECONDS", 0.05)
    released = threading.Event()

    class Hangs(World):
        def version(self):
            released.wait()
            return (1, 37)

    hook = made(Hangs(), recorder)

    async def answered():
        try:
            return await hook.answer(pod(), namespace="shop", dry_run=False)
        finally:
            released.set()

    assert asyncio.run(answered()).pod == pod()
    assert recorder.counted == [("failed", "TimeoutError")]


def test_who_applies_a_pod_is_told_why_it_gets_none(recorder):
    answer = ask(World(), recorder, pod(hostNetwork=True))
    assert answer.pod == pod(hostNetwork=True)
    assert len(answer.warnings) == 1
    assert "on the node's network" in answer.warnings[0]
    assert recorder.counted == [("skipped", "HostNetwork")]


def test_nobody_is_told_of_a_pod_that_nobody_wanted_covered(recorder):
    for world in (World(policies=[]), World(labels={})):
        assert ask(world, recorder, pod(owner=OWNER)) == webhook.Answer(pod(owner=OWNER))
    assert recorder.events == []


def test_what_creates_such_pods_gets_one_event_however_many_it_creates(recorder):
    hook = made(World(version=(1, 28)), recorder)
    for _ in range(3):
        ask(None, None, pod(owner=OWNER), hook=hook)
    assert recorder.recorded.wait(5)
    hook._threads.shutdown()
    assert recorder.events == [("ReplicaSet", "search-5b7c", "EmbeddingSidecarServerTooOld")]


def test_a_dry_run_writes_no_event(recorder):
    hook = made(World(version=(1, 28)), recorder)
    answer = ask(None, None, pod(owner=OWNER), hook=hook, dry_run=True)
    hook._threads.shutdown()
    assert answer.warnings
    assert recorder.events == []
