"""A workload is restarted for the Secrets that it reads, once, and never at first sight."""

import base64
import copy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator.controller import workloads

NAMES = ("database", "queue")


def secret(name="database", uid="uid-1", **values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name, "uid": uid}, "data": data}


def by_key(name="database", key="PASSWORD", **more):
    reference = {"name": name, "key": key, **more}
    return {"containers": [{"env": [{"name": "X", "valueFrom": {"secretKeyRef": reference}}]}]}


def by_env_from(name="database", **more):
    return {"containers": [{"envFrom": [{"secretRef": {"name": name, **more}}]}]}


def by_volume(name="database", **more):
    return {"containers": [{}], "volumes": [{"secret": {"secretName": name, **more}}]}


def by_projection(name="database", **more):
    sources = [{"configMap": {"name": "c"}}, {"secret": {"name": name, **more}}]
    return {"containers": [{}], "volumes": [{"projected": {"sources": sources}}]}


def by_init_container(name="database"):
    return {"containers": [{}], "initContainers": by_env_from(name)["containers"]}


def workload(spec, *, asked: str | None = "true", kind="Deployment", **more):
    annotations = {} if asked is None else {names.ANNOTATION_RESTART: asked}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "w", "namespace": "n", "uid": "u", "annotations": annotations},
        "spec": {"template": {"metadata": {}, "spec": spec}, **more},
    }


def held(*secrets):
    return dict.fromkeys(NAMES) | {it["metadata"]["name"]: it for it in secrets}


def applied(found, change):
    """Server-side apply of all that is ours."""
    made = copy.deepcopy(found)
    ours = {names.ANNOTATION_SECRETS_SEEN, names.ANNOTATION_SECRETS}
    for place, desired in (
        (made["metadata"], change.desired["metadata"]),
        (
            made["spec"]["template"]["metadata"],
            change.desired.get("spec", {}).get("template", {}).get("metadata", {}),
        ),
    ):
        kept = {k: v for k, v in place.get("annotations", {}).items() if k not in ours}
        place["annotations"] = kept | desired.get("annotations", {})
    return made


def noted(spec, *secrets, **more):
    """A workload that was seen with these Secrets."""
    found = workload(spec, **more)
    change = workloads.decide(found, held(*secrets))
    assert change is not None
    assert change.because == ()
    return applied(found, change)


def because(found, *secrets):
    change = workloads.decide(found, held(*secrets))
    return change.because if change else ()


OLD = secret(PASSWORD="old", USER="me")
NEW = secret(PASSWORD="new", USER="me")
READING = {
    "a key": (by_key(), "database/PASSWORD"),
    "a whole environment": (by_env_from(), "database"),
    "an init container's environment": (by_init_container(), "database"),
    "a volume": (by_volume(), "database"),
    "a key in a volume": (by_volume(items=[{"key": "PASSWORD"}]), "database/PASSWORD"),
    "a projected volume": (by_projection(), "database"),
}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
@pytest.mark.parametrize("by", READING)
def test_change_of_read_secret_restarts_workload(by, kind):
    spec, part = READING[by]
    assert because(noted(spec, OLD, kind=kind), NEW) == (part,)


@pytest.mark.parametrize("by", READING)
def test_workload_is_not_restarted_at_first_sight(by):
    change = workloads.decide(workload(READING[by][0]), held(OLD))
    assert change is not None
    assert "spec" not in change.desired


def test_restart_touches_two_annotations_and_nothing_else():
    change = workloads.decide(noted(by_key(), OLD), held(NEW))
    assert change is not None
    (note,) = change.desired["metadata"].pop("annotations").items()
    (digest,) = change.desired.pop("spec")["template"]["metadata"]["annotations"].items()
    assert (note[0], digest[0]) == (names.ANNOTATION_SECRETS_SEEN, names.ANNOTATION_SECRETS)
    assert change.desired == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "w", "namespace": "n", "uid": "u"},
    }


def test_key_that_is_not_read_restarts_nothing():
    other = secret(PASSWORD="old", USER="another")
    assert because(noted(by_key(), OLD), other) == ()
    assert because(noted(by_env_from(), OLD), other) == ("database",)


@pytest.mark.parametrize("asked", [None, "false", "", "True"])
def test_only_who_asks_is_restarted(asked):
    found = workload(by_key(), asked=asked)
    assert workloads.decide(found, held(OLD)) is None


def test_secrets_may_be_named_whether_or_not_they_are_read():
    found = noted({"containers": [{}]}, OLD, asked="queue, database")
    assert because(found, NEW) == ("database",)
    unknown = workload(by_key(), asked="somebody-elses")
    assert workloads.decide(unknown, held(OLD)) is None


def test_workload_without_annotation_is_forgotten_and_not_restarted():
    found = noted(by_key(), OLD)
    restarted = applied(found, workloads.decide(found, held(NEW)))
    digest = restarted["spec"]["template"]["metadata"]["annotations"][names.ANNOTATION_SECRETS]
    restarted["metadata"]["annotations"].pop(names.ANNOTATION_RESTART)
    change = workloads.decide(restarted, held(NEW))
    assert change is not None
    assert change.because == ()
    assert "annotations" not in change.desired["metadata"]
    # Left out, it would be taken away, and that is a change of the template.
    kept = change.desired["spec"]["template"]["metadata"]["annotations"]
    assert kept == {names.ANNOTATION_SECRETS: digest}


def test_paused_deployment_is_left_alone_and_made_up_for_later():
    found = noted(by_key(), OLD)
    found["spec"]["paused"] = True
    change = workloads.decide(found, held(NEW))
    assert change is not None
    assert (change.because, "spec" in change.desired) == ((), False)
    found = applied(found, change)
    assert workloads.decide(found, held(NEW)) is None
    found["spec"]["paused"] = False
    assert because(found, NEW) == ("database/PASSWORD",)


def test_deferred_restart_happens_later():
    found = noted(by_key(), OLD)
    change = workloads.decide(found, held(NEW), may_restart=False)
    assert change is not None
    assert (change.because, "spec" in change.desired) == ((), False)
    found = applied(found, change)
    # Also if the old value is back by then: a pod may have started in between.
    for secret_now in (NEW, OLD):
        assert because(found, secret_now) == ("database/PASSWORD",)


def test_template_that_reads_more_by_now_was_rolled_out_by_its_owner():
    found = noted(by_key(), OLD)
    found["spec"]["template"]["spec"] = by_env_from()
    change = workloads.decide(found, held(OLD))
    assert change is not None
    assert change.because == ()


def test_deleted_secret_restarts_nothing_and_returned_one_is_new():
    found = noted(by_key(), OLD)
    assert workloads.decide(found, held()) is None
    back = secret(uid="uid-2", PASSWORD="old")
    assert because(found, back) == ("database/PASSWORD",)


def test_pods_that_wait_for_secret_are_not_restarted_when_it_comes():
    assert because(noted(by_key()), OLD) == ()


def test_pods_that_run_without_optional_secret_are_restarted_when_it_comes():
    assert because(noted(by_key(optional=True)), OLD) == ("database/PASSWORD",)
    assert because(noted(by_env_from(optional=True)), OLD) == ("database",)
    both = by_key(optional=True)
    both["containers"] += by_key()["containers"]
    assert because(noted(both), OLD) == ()


def test_several_changes_are_one_restart():
    found = workload(
        {"containers": by_key()["containers"] + by_env_from("queue")["containers"]},
    )
    before, after = secret("queue", "uid-2", URL="a"), secret("queue", "uid-2", URL="b")
    found = applied(found, workloads.decide(found, held(OLD, before)))
    change = workloads.decide(found, held(NEW, after))
    assert change is not None
    assert change.because == ("database/PASSWORD", "queue")
    assert workloads.decide(applied(found, change), held(NEW, after)) is None


def test_annotation_digest_depends_on_uid_of_secret():
    """The digest of one content is another one under another uid, which is a Secret's own."""
    one = noted(by_key(), secret(uid="uid-1", PASSWORD="weak"))
    other = noted(by_key(), secret(uid="uid-2", PASSWORD="weak"))
    note = names.ANNOTATION_SECRETS_SEEN
    assert one["metadata"]["annotations"][note] != other["metadata"]["annotations"][note]


def test_foreign_text_in_annotation_restarts_nothing():
    for text in ("nonsense", "database/PASSWORD", ",,=", "x" * 1000):
        found = workload(by_key())
        found["metadata"]["annotations"][names.ANNOTATION_SECRETS_SEEN] = text
        if text != "database/PASSWORD":
            assert because(found, OLD) == ()


class World:
    """A Deployment that reads one key, its Secret, and what its pods were started with."""

    def __init__(self):
        self.found = workload(by_key())
        self.secret = OLD
        self.pods = "old"
        self.restarts = 0
        self.templates = []
        self._uids = 1

    @property
    def content(self):
        if self.secret is None:
            return None
        return base64.b64decode(self.secret["data"]["PASSWORD"]).decode()

    def look(self, *, may_restart=True):
        change = workloads.decide(self.found, {"database": self.secret}, may_restart=may_restart)
        if change is None:
            return
        before, note = self._template(), self._note()
        self.found = applied(self.found, change)
        if self._template() != before:
            assert change.because
            self.restarts += 1
            self.templates.append((before, note))
            self.pods = self.content  # None waits for the Secret
        else:
            assert not change.because

    def write(self, value):
        """As the operator does it: it looks first."""
        if self.secret is None:
            self._uids += 1
            self.secret = secret(uid=f"uid-{self._uids}", PASSWORD=value)
            self.pods = self.pods or value
        else:
            self.look(may_restart=False)
            self.secret = secret(uid=self.secret["metadata"]["uid"], PASSWORD=value)

    def delete(self):
        self.secret = None

    def undo(self):
        """`kubectl rollout undo`, which brings back an old template."""
        if self.templates:
            template, _ = self.templates.pop()
            self.found["spec"]["template"]["metadata"]["annotations"] = template
            self.pods = self.content

    def undo_deployment(self):
        """The same, which for a Deployment brings back its annotations of that time too."""
        if self.templates:
            _, note = self.templates[-1]
            self.found["metadata"]["annotations"][names.ANNOTATION_SECRETS_SEEN] = note
            self.undo()

    def replace(self):
        """`kubectl replace` with the owner's manifest, which has none of our annotations."""
        paused = self.found["spec"].get("paused")
        before = self._template()
        self.found = workload(by_key(), paused=paused)
        if before:
            self.pods = self.content

    def pause(self):
        self.found["spec"]["paused"] = True

    def resume(self):
        self.found["spec"]["paused"] = False

    def _note(self):
        return self.found["metadata"]["annotations"].get(names.ANNOTATION_SECRETS_SEEN, "")

    def _template(self):
        return dict(self.found["spec"]["template"]["metadata"].get("annotations", {}))


WRITES = st.sampled_from(["old", "new", "newer"]).map(lambda value: ("write", value))
OTHERS = st.sampled_from(
    ["look", "delete", "undo", "undo_deployment", "pause", "resume"],
).map(lambda it: (it,))


# A value comes back before anybody looked, and a pod had started with the one in between.
@example([("write", "new"), ("look",), ("write", "old"), ("undo",), ("write", "new")])
@given(st.lists(st.one_of(WRITES, OTHERS), max_size=12))
def test_every_pod_ends_with_current_content(steps):
    world = World()
    world.look()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    world.resume()
    if world.secret is None:
        world.write("last")
    world.look()
    assert world.pods == world.content
    restarts = world.restarts
    world.look()
    assert world.restarts == restarts


@given(st.lists(st.sampled_from(["look", "undo", "pause", "resume", "replace"]), max_size=12))
def test_workload_is_not_restarted_while_no_secret_changes(steps):
    world = World()
    world.look()
    world.write("new")
    world.look()
    assert world.restarts == 1
    for name in steps:
        getattr(world, name)()
    assert world.restarts == 1
