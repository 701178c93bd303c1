"""Secrets for applications on a real API server: types, labels, annotations and templates."""

import base64
import json

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.vault import Reading
from tests.integration.test_synced_secrets import DATABASE, Gone, Run, entry, good

pytestmark = pytest.mark.cluster

DOCKER, TLS = "kubernetes.io/dockerconfigjson", "kubernetes.io/tls"
AUTHS = '{"auths":{"r.example":{"auth":"{{ printf "%s:%s" .user .password | b64enc }}"}}}'
REGISTRY = {"type": DOCKER, "template": {"data": {".dockerconfigjson": AUTHS}}}


@pytest.fixture
def run(api_server, namespace):
    made = Run(api_server, namespace)
    made.store.paths[DATABASE] = good(user=b"ann", password=b"s3cr3t-pw")
    return made


def secret(run, name="database"):
    return run.get(kinds.SECRET, name)


def test_registry_secret_has_type_labels_and_annotations(run):
    run.apply(entry(**REGISTRY, labels={"team": "shop"}, annotations={"tekton.dev/docker-0": "r"}))
    found = secret(run)
    assert found["type"] == DOCKER
    assert found["metadata"]["labels"] == {
        "team": "shop",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_POLICY: "search",
    }
    assert found["metadata"]["annotations"] == {"tekton.dev/docker-0": "r"}
    auths = json.loads(run.held()[".dockerconfigjson"])["auths"]
    assert base64.b64decode(auths["r.example"]["auth"]) == b"ann:s3cr3t-pw"
    assert run.synced() == ("True", "Synced")


TYPES = {
    TLS: {"tls.crt": b"c", "tls.key": b"k"},
    "kubernetes.io/basic-auth": {"password": b"p"},
    "kubernetes.io/ssh-auth": {"ssh-privatekey": b"k"},
    DOCKER: {".dockerconfigjson": b'{"auths":{}}'},
}


@pytest.mark.parametrize("kind", TYPES)
def test_type_is_as_kubernetes_has_it(run, kind):
    """The API server, which holds types to their keys, takes each, and none without its keys."""
    run.apply(entry(type=kind))
    if kind == "kubernetes.io/basic-auth":
        assert secret(run)["type"] == kind
    else:
        assert run.held() is None
        assert run.synced() == ("False", "TypeKeysMissing")
        assert f"{kind} needs {', '.join(TYPES[kind])}" in run.message()
    run.store.paths[DATABASE] = Reading(values=TYPES[kind], version=2)
    run("search")
    assert (secret(run)["type"], run.held()) == (kind, TYPES[kind])
    assert run.synced() == ("True", "Synced")


def test_half_of_new_certificate_leaves_old_one(run):
    run.store.paths[DATABASE] = Reading(values={"tls.crt": b"c1", "tls.key": b"k1"}, version=1)
    run.apply(entry(type=TLS, keys=[{"key": "tls.crt"}, {"key": "tls.key"}]))
    run.store.paths[DATABASE] = Reading(values={"tls.crt": b"c2"}, version=2)
    run("search")
    assert run.held() == {"tls.crt": b"c1", "tls.key": b"k1"}
    assert run.synced() == ("False", "KeyMissing")
    assert "there is no key tls.key" in run.message()


def test_wrong_template_leaves_old_secret_and_tells_no_value(run):
    run.apply(entry(template={"data": {"a": "{{ .user }}"}}))
    for text, reason in (
        ("{{ .nope }}", "KeyMissing"),
        ("{{ .password | b64dec }}", "TemplateFailed"),
        ("{{ env `HOME` }}", "TemplateInvalid"),
    ):
        run.apply(entry(template={"data": {"a": "{{ .password }}", "b": text}}))
        assert run.synced() == ("False", reason)
        assert run.held() == {"a": b"ann"}
        told = json.dumps([run.status("search"), run.events.told])
        assert "s3cr3t-pw" not in told


def test_value_with_braces_is_not_read_as_template(run):
    run.store.paths[DATABASE] = good(user=b"{{ .password }}", password=b"s3cr3t-pw")
    run.apply(entry(template={"data": {"a": "{{ .user }}"}}))
    assert run.held() == {"a": b"{{ .password }}"}


def test_labels_and_annotations_that_policy_drops_go(run):
    run.apply(entry(labels={"a": "1", "b": "2"}, annotations={"c": "3"}))
    run.user("label", "secret", "database", "-n", run.namespace, "theirs=yes")
    run.apply(entry(labels={"a": "1"}))
    metadata = secret(run)["metadata"]
    assert metadata["labels"].keys() - {names.LABEL_MANAGED_BY, names.LABEL_POLICY} == {
        "a",
        "theirs",
    }
    assert "annotations" not in metadata
    assert run.drifted == []


def test_label_that_somebody_changed_is_put_back(run):
    run.apply(entry(labels={"a": "1"}, annotations={"c": "3"}))
    for what in ("label", "annotate"):
        key = "a=x" if what == "label" else "c=x"
        run.user(what, "secret", "database", "-n", run.namespace, "--overwrite", key)
    run("search")
    metadata = secret(run)["metadata"]
    assert (metadata["labels"]["a"], metadata["annotations"]["c"]) == ("1", "3")
    assert run.drifted == ["Secret"]


# --- a change of type


def test_change_of_type_makes_secret_anew(run):
    run.apply(entry())
    before = secret(run)
    run.apply(entry(**REGISTRY))
    after = secret(run)
    assert after["type"] == DOCKER
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert run.synced() == ("True", "Synced")
    run.apply(entry())
    assert (secret(run)["type"], run.held()) == (
        "Opaque",
        {"user": b"ann", "password": b"s3cr3t-pw"},
    )
    assert run.drifted == []


class Watched:
    """A cluster that notes for how long Secret `database` was away."""

    def __init__(self, real):
        self._real = real
        self.calls = []

    def __getattr__(self, name):
        method = getattr(self._real, name)

        def call(*arguments, **keywords):
            body = next((it for it in arguments if isinstance(it, dict)), {})
            if body.get("metadata", {}).get("name", "").startswith("database") or name == "dry_run":
                self.calls.append(name)
            return method(*arguments, **keywords)

        return call


def test_secret_is_back_with_next_call_after_its_deletion(run):
    run.apply(entry())
    watched = Watched(run.objects)
    run.restart(objects=watched)
    run.apply(entry(**REGISTRY))
    assert watched.calls == ["dry_run", "delete", "apply"]


UNREADABLE = {
    "Vault is away": Gone.AWAY,
    "Vault is away, and had told all": Reading(
        values={"user": b"ann", "password": b"s3cr3t-pw"}, problem=Gone.AWAY.problem
    ),
    "a key is missing": good(2, user=b"ann"),
    "nothing was read yet": Reading(),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_secret_stays_of_old_type_until_all_of_new_one_is_read(run, case):
    run.apply(entry())
    before = secret(run)
    run.store.paths[DATABASE] = UNREADABLE[case]
    run.apply(entry(**REGISTRY))
    assert secret(run) == before
    assert run.synced()[0] != "True"


def test_secret_that_would_be_refused_leaves_old_one(run):
    """A quota of the objects that is used up, as any admission policy would."""
    run.apply(entry())
    before = secret(run)
    real = run.objects

    class Refusing:
        def __getattr__(self, name):
            return getattr(real, name)

        def dry_run(self, kind, namespace, body):
            assert (kind, body["type"]) == (kinds.SECRET, DOCKER)
            raise errors.Denied("quota used up")

    run.restart(objects=Refusing())
    run.apply(entry(**REGISTRY))
    assert secret(run) == before
    assert run.synced() == ("False", "TypeNotChanged")
    assert "database stays of type Opaque" in run.message()


def test_foreign_secret_of_another_type_is_left_alone(run):
    run.user("create", "secret", "generic", "database", "--from-literal=a=1", "-n", run.namespace)
    before = secret(run)
    run.apply(entry(**REGISTRY))
    assert secret(run) == before
    assert run.synced() == ("False", "ForeignObject")


def test_crash_between_deletion_and_creation_is_made_up_for(run):
    run.apply(entry())

    class Crashing:
        def __getattr__(self, name):
            return getattr(real, name)

        def apply(self, desired, **options):
            if desired["metadata"]["name"] == "database":
                raise errors.Unavailable("the process ended here")
            return real.apply(desired, **options)

    real = run.objects
    run.restart(objects=Crashing())
    with pytest.raises(errors.Unavailable):
        run.apply(entry(**REGISTRY))
    assert run.held() is None
    run.restart()
    run("search")
    assert secret(run)["type"] == DOCKER
