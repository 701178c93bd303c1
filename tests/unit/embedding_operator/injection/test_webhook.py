"""The admission webhook's answers."""

import asyncio
import json
from typing import Any

import kopf
import pytest

from dev.cluster.certificates import Authority
from embedding_contract import names
from embedding_operator import errors
from embedding_operator.injection import (
    admission_server,
    injector,
    namespace_bounds,
    selection,
    webhook,
)
from tests.parts import ports

SIDECAR = injector.Sidecar(image="example/sidecar:1", pull_policy="Always", resources={})
POLICY = {
    "metadata": {
        "name": "search",
        "namespace": "shop",
        "uid": "p",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"podSelector": {}},
}


class World:
    """A cluster of one namespace; `error` is raised by every read."""

    def __init__(self, *, policies=(POLICY,), labels=None, error=None, version=(1, 37)):
        self.policies = list(policies)
        self.labels = {names.LABEL_INJECTION: "enabled"} if labels is None else labels
        self.error = error
        self.server = version
        self.bounds = namespace_bounds.Bounds()

    def namespace(self, name):
        if self.error is not None:
            raise self.error
        if name != "shop":
            return None
        return {"metadata": {"name": name, "uid": "n", "labels": self.labels}}

    def policies_of(self, namespace):
        return self.policies if namespace == "shop" else []

    def bounds_of(self, namespace):
        return self.bounds

    def server_version(self):
        return self.server


class Recorder:
    """Keeps what was told and counted."""

    def __init__(self):
        self.told = []
        self.counted = []

    def skipped(self, about, *, pod, reason, message):
        self.told.append((about["metadata"].get("uid"), reason))

    def injected(self, *, result, reason):
        self.counted.append((result, reason))


@pytest.fixture
def recorder():
    return Recorder()


def pod(*, labels=None, **spec):
    metadata = {"generateName": "search-", "labels": labels or {}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "app"}], **spec}}


def made(world, recorder):
    return webhook.Webhook(seen=world, sidecar=SIDECAR, tells=recorder, counts=recorder)


def ask(world, recorder, a_pod, *, dry_run=False, namespace="shop"):
    return made(world, recorder).answer(a_pod, namespace=namespace, dry_run=dry_run)


def test_covered_pod_gets_its_sidecar(recorder):
    answer = ask(World(), recorder, pod())
    assert selection.carries_sidecar(answer.pod)
    assert answer.warnings == ()
    assert recorder.counted == [("injected", "")]


def test_asked_again_it_changes_nothing(recorder):
    first = ask(World(), recorder, pod())
    again = ask(World(), recorder, first.pod)
    assert again == first
    assert recorder.counted[-1] == ("kept", "")


def test_pod_without_room_is_created_and_noted(recorder):
    world = World()
    item = {"type": "Container", "max": {"memory": "64Mi"}}
    world.bounds = namespace_bounds.Bounds(limit_ranges=[{"spec": {"limits": [item]}}])
    answer = ask(world, recorder, pod())
    assert not selection.carries_sidecar(answer.pod)
    assert answer.pod["spec"] == pod()["spec"]
    assert answer.pod["metadata"]["annotations"] == {names.ANNOTATION_SIDECAR_SKIPPED: "LimitRange"}
    assert "a LimitRange leaves 67108864 of memory" in answer.warnings[0]
    assert recorder.counted == [("skipped", "LimitRange")]
    assert recorder.told == [("p", "LimitRange")]


def test_pod_within_limit_range_gets_fitted_sidecar(recorder):
    world = World()
    item = {"type": "Container", "max": {"memory": "256Mi"}}
    world.bounds = namespace_bounds.Bounds(limit_ranges=[{"spec": {"limits": [item]}}])
    container = ask(world, recorder, pod()).pod["spec"]["initContainers"][0]
    assert container["resources"]["limits"] == {"memory": "268435456"}


@pytest.mark.parametrize(
    "error",
    [errors.Unavailable("away"), errors.Denied("no"), KeyError("spec"), RuntimeError("a bug")],
)
def test_pod_is_created_unchanged_after_any_error(recorder, error):
    answer = ask(World(error=error), recorder, pod())
    assert answer.pod == pod()
    assert type(error).__name__ in answer.warnings[0]
    assert recorder.counted == [("failed", type(error).__name__)]


def test_reviews_that_fail_one_after_other_are_one_line_each_reason(recorder, caplog):
    """field.md, D: a log flood fills the node's disk, and a tenant makes as many as they like."""
    hook = made(World(error=RuntimeError("a bug")), recorder)
    other = made(World(error=KeyError("spec")), recorder)
    for number in range(100):
        hook.answer(pod(), namespace=f"forged-{number}", dry_run=False)
        hook.answer(pod(), namespace="x" * 100_000, dry_run=False)
    other.answer(pod(), namespace="shop", dry_run=False)
    reasons = [it.getMessage().partition(":")[0] for it in caplog.records]
    assert reasons == ["RuntimeError", "KeyError"]
    assert len(recorder.counted) == 201


def test_policy_of_nonsense_is_no_reason_to_stop_pod(recorder):
    nonsense = {"metadata": {"name": "search"}, "spec": {"podSelector": "everything"}}
    answer = ask(World(policies=[nonsense]), recorder, pod())
    assert answer.pod == pod()
    assert recorder.counted[0][0] == "failed"


def test_applier_of_pod_is_told_why_sidecar_is_missing(recorder):
    answer = ask(World(), recorder, pod(hostNetwork=True))
    assert answer.pod == pod(hostNetwork=True)
    assert len(answer.warnings) == 1
    assert "on the host network" in answer.warnings[0]
    assert recorder.counted == [("skipped", "HostNetwork")]


def test_pod_that_no_policy_selects_is_not_reported(recorder):
    for world in (World(policies=[]), World(labels={})):
        assert ask(world, recorder, pod()) == webhook.Answer(pod())
    assert recorder.told == []


def test_event_of_skipped_pod_is_about_its_policy(recorder):
    ask(World(version=(1, 28)), recorder, pod())
    assert recorder.told == [("p", "ServerTooOld")]


def test_event_of_policy_that_is_not_there_is_about_namespace(recorder):
    ask(World(), recorder, pod(labels={names.LABEL_POLICY: "serach"}))
    assert recorder.told == [("n", "PolicyNotFound")]


def test_dry_run_writes_no_event(recorder):
    answer = ask(World(version=(1, 28)), recorder, pod(), dry_run=True)
    assert answer.warnings
    assert recorder.told == []


def test_namespace_that_nobody_has_seen_is_not_enabled(recorder):
    answer = ask(World(), recorder, pod(hostNetwork=True), namespace="forged")
    assert answer == webhook.Answer(pod(hostNetwork=True))
    assert recorder.told == []


# --- reviews


REVIEW: dict[str, Any] = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "r",
        "operation": "CREATE",
        "namespace": "shop",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod(),
        "oldObject": None,
    },
}


def reviewed(body, *, path="/inject", answer=None):
    """Status, and how many reviews kopf was given."""
    given: list[Any] = []
    asked: Any = reviewing(answer, given)
    return asyncio.run(asked(path, body))[0], len(given)


def reviewing(answer=None, given=None):
    async def kopf_answers(review, *, webhook):
        if given is not None:
            given.append(review)
        if answer is not None:
            raise answer
        return {"response": {"uid": review["request"]["uid"]}}

    return webhook._reviewing(kopf_answers)  # type: ignore[arg-type] # kopf gives more


def changed(**request):
    return json.dumps({**REVIEW, "request": {**REVIEW["request"], **request}}).encode()


def test_review_is_about_namespace_that_it_names():
    assert webhook.namespace_of(changed(namespace="books")) == "books"
    assert webhook.namespace_of(changed(namespace="x" * 100_000)) == "x" * 63


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b'{"request": 1}', changed(namespace=None)])
def test_body_that_is_no_review_has_no_namespace(body):
    assert webhook.namespace_of(body) == ""


def test_review_of_new_pod_is_answered():
    assert reviewed(changed()) == (200, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"request": 1}',
        changed(operation="UPDATE"),
        changed(operation="DELETE", object=None, oldObject=pod()),
        changed(operation="CONNECT"),
        changed(subResource="ephemeralcontainers"),
        changed(resource={"group": "", "version": "v1", "resource": "secrets"}),
        changed(resource={"resource": "pods"}),
        changed(object=None),
        changed(object={"metadata": [], "spec": {}}),
        changed(uid=1),
        changed(namespace=None),
    ],
)
def test_review_of_anything_else_is_refused_before_kopf_sees_it(body):
    assert reviewed(body) == (400, 0)


def test_webhook_listens_once_files_and_stores_are_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(admission_server, "START_SECONDS", 0.0)
    Authority().issue("webhook", hosts=["localhost"]).write(tmp_path, "tls")
    files = admission_server.Files(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    chosen = kopf.OperatorSettings()
    asked = iter([False, False, True])
    webhook.serve(
        chosen,
        port=ports.free(),
        files=files,
        is_ready=lambda: next(asked),
        listens=lambda: None,
        is_ending=lambda: False,
    )

    async def listening():
        server: Any = chosen.admission.server
        await anext(server(None))
        return next(asked, "it was ready")

    assert asyncio.run(listening()) == "it was ready"


def test_another_path_is_not_found():
    assert reviewed(changed(), path="/validate") == (404, 0)


def test_bug_is_answered_with_500_so_that_pod_is_created(caplog):
    asked: Any = reviewing(RuntimeError("a bug"))
    assert [asyncio.run(asked("/inject", changed()))[0] for _ in range(50)] == [500] * 50
    assert len(caplog.records) == 1
