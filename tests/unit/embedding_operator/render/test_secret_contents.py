"""The values of a synced Secret: all of them for a type or a template, or none."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.policy.policy import SyncedSecret
from embedding_operator.render import secret_contents

PATH = "secret/shop/app"
FOUND = {"username": b"ann", "password": b"s3cr3t-pw", "tls.crt": b"crt", "tls.key": b"key"}
DOCKER = "kubernetes.io/dockerconfigjson"
AUTHS = (
    '{"auths":{"registry.example":{"auth":"{{ printf "%s:%s" .username .password | b64enc }}"}}}'
)


def of(found=FOUND, **entry):
    fields = {"name": "app", "mount": "secret", "path": "shop/app", "keys": None, **entry}
    return secret_contents.of(SyncedSecret(**fields), found, path=PATH)


def reasons(content):
    return [it.reason for it in content.problems]


def test_registry_secret_is_made_of_user_and_password():
    made = of(type=DOCKER, templates={".dockerconfigjson": AUTHS})
    assert made.problems == ()
    (auths,) = json.loads(made.values[".dockerconfigjson"])["auths"].values()
    assert base64.b64decode(auths["auth"]) == b"ann:s3cr3t-pw"


def test_template_replaces_keys_and_merge_keeps_them():
    templates = {"dsn": "postgres://{{ .username }}@db", "username": "bob"}
    assert of(templates=templates).values == {"dsn": b"postgres://ann@db", "username": b"bob"}
    assert of(templates=templates, merges=True).values == {
        **FOUND,
        "dsn": b"postgres://ann@db",
        "username": b"bob",
    }


def test_template_names_keys_as_they_are_renamed():
    made = of(keys={"username": "user"}, templates={"a": "{{ .user }}"})
    assert made.values == {"a": b"ann"}
    assert of(keys={"username": "user"}, templates={"a": "{{ .username }}"}).values == {}


def test_key_that_no_secret_can_have_serves_template():
    made = of({"a key": b"v"}, templates={"a": '{{ index . "a key" }}'})
    assert (made.values, made.problems) == ({"a": b"v"}, ())


NEEDS = {
    DOCKER: ".dockerconfigjson",
    "kubernetes.io/tls": "tls.crt, tls.key",
    "kubernetes.io/ssh-auth": "ssh-privatekey",
    "kubernetes.io/basic-auth": "username or password",
}


@pytest.mark.parametrize("kind", NEEDS)
def test_type_without_its_keys_is_refused_and_named(kind):
    made = of({"other": b"v"}, type=kind)
    assert made.values == {}
    (problem,) = made.problems
    assert problem.reason == "TypeKeysMissing"
    assert f"needs {NEEDS[kind]}, which {PATH} does not give" in problem.message


@pytest.mark.parametrize("lacks", ["tls.crt", "tls.key"])
@pytest.mark.parametrize("value", [None, b" \n"])
def test_half_certificate_is_no_secret(lacks, value):
    found = {**FOUND, lacks: value} if value is not None else FOUND
    found = {key: it for key, it in found.items() if key != lacks or value is not None}
    assert of(found, type="kubernetes.io/tls").values == {}


def test_key_that_is_missing_leaves_nothing_of_typed_secret():
    keys = {key: key for key in ("tls.crt", "tls.key", "ca.crt")}
    made = of(type="kubernetes.io/tls", keys=keys)
    assert (made.values, reasons(made)) == ({}, ["KeyMissing"])
    assert of(keys=keys).values == {key: FOUND[key] for key in ("tls.crt", "tls.key")}


NO_CONFIG = [b"x", b"[]", b"{}", b'{"auths": []}', b"[" * 9_999, b"\xff"]


@pytest.mark.parametrize("value", NO_CONFIG)
def test_registry_secret_that_nobody_can_use_is_refused(value):
    made = of({".dockerconfigjson": value}, type=DOCKER)
    assert (made.values, reasons(made)) == ({}, ["ValueUnusable"])


@pytest.mark.parametrize("text", ["{{ .nope }}", "{{ .password | b64dec }}", "{{ nope }}"])
def test_template_that_fails_leaves_no_value_and_tells_none(text):
    made = of(templates={"good": "{{ .username }}", "bad": text})
    assert made.values == {}
    assert len(made.problems) == 1
    assert "s3cr3t" not in repr(made)


@given(
    found=st.dictionaries(st.sampled_from(["a", "b", "tls.crt", "tls.key"]), st.binary()),
    kind=st.sampled_from(["Opaque", *NEEDS]),
    templates=st.none()
    | st.dictionaries(st.sampled_from(["a", "tls.crt", "tls.key"]), st.text(), min_size=1),
    merges=st.booleans(),
)
def test_whole_secret_has_all_that_it_should_or_nothing(found, kind, templates, merges):
    made = of(found, type=kind, templates=templates, merges=merges)
    if kind == "Opaque" and templates is None:
        return
    assert (made.values == {}) if made.problems else set(templates or ()) <= made.values.keys()
    if made.values:
        assert set(secret_contents.NEEDED[kind]) <= made.values.keys()
