"""The sources of values, and the report of values that are not available."""

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import credentials
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.policy import policy
from embedding_operator.render import secrets
from tests.fakes.secret_store import Store
from tests.parts import policies

MISSING = errors.Problem("VaultSealed", "Vault is sealed; secret/shop/keys")


class Objects(KubeClient):
    """Secrets of the namespace shop."""

    def __init__(self, **held):
        self._held = held

    def get(self, kind, namespace, name):
        assert (kind.plural, namespace) == ("secrets", "shop")
        if name not in self._held:
            return None
        return secrets.of(policies.parsed(), name, self._held[name])


def one(reference):
    """A policy whose only provider takes its key from there."""
    provider = policies.compatible("own", apiKey=reference)
    base = policies.everything()["spec"]
    return policies.parsed(
        providers=[provider],
        secrets=None,
        cache={**base["cache"], "redis": {"url": "redis://cache:6379/0"}},
        quota={**base["quota"], "redis": {"url": "redis://quota:6379/0"}},
    )


VAULT = {"vault": {"mount": "secret", "path": "shop/keys", "key": "KEY"}}
SECRET = {"secretKeyRef": {"name": "keys", "key": "openai"}}


def found(wanted, *, store=None, **held):
    resolver = credentials.Credentials(
        namespace="embedding-system", reads=CurrentReads(Objects(**held).get), store=store
    )
    return resolver.owned(wanted)


def store(**paths):
    made = Store()
    made.paths = {f"secret/shop/{name}": values for name, values in paths.items()}
    return made


def test_url_of_policy_is_its_own_value():
    values = found(one(SECRET), keys={"openai": b"sk"}).values
    assert values[names.SECRET_CACHE_REDIS_URL] == b"redis://cache:6379/0"
    assert values[names.SECRET_QUOTA_REDIS_URL] == b"redis://quota:6379/0"


def test_key_is_taken_from_vault_or_from_secret():
    assert found(one(VAULT), store=store(keys={"KEY": b"sk"})).values["provider-own"] == b"sk"
    assert found(one(SECRET), keys={"openai": b"sk"}).values["provider-own"] == b"sk"


CANNOT = {
    "the Secret is missing": (SECRET, {}, "SecretMissing", "Secret keys"),
    "its key is missing": (SECRET, {"keys": {"x": b""}}, "KeyMissing", "no key openai in Secret"),
    "it is empty": (SECRET, {"keys": {"openai": b" \n"}}, "KeyEmpty", "openai of Secret keys"),
    "it has two lines": (SECRET, {"keys": {"openai": b"a\nb"}}, "KeyUnusable", "Secret keys"),
    "it is no text": (SECRET, {"keys": {"openai": b"\xff\x00"}}, "KeyUnusable", "Secret keys"),
    "no Vault is known": (VAULT, {}, "VaultNotConfigured", "secret/shop/keys"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_key_cannot_be_had_if(case):
    reference, held, reason, said = CANNOT[case]
    seen = found(one(reference), **held)
    assert "provider-own" not in seen.values
    (problem,) = seen.problems
    assert problem.reason == reason
    assert said in problem.message
    assert seen.values[names.SECRET_CACHE_REDIS_URL], "the rest is carried out all the same"


def test_problem_of_vault_is_passed_on():
    (problem,) = found(one(VAULT), store=store(keys=MISSING)).problems
    assert problem.reason == MISSING.reason
    assert MISSING.message in problem.message


def test_key_that_path_lacks_is_named():
    (problem,) = found(one(VAULT), store=store(keys={"OTHER": b"x"})).problems
    assert problem.reason == "KeyMissing"
    assert "there is no key KEY at secret/shop/keys" in problem.message


def entry(keys=None):
    return policy.SyncedSecret(name="app", mount="secret", path="shop/keys", keys=keys)


def synced(wanted, values):
    resolver = credentials.Credentials(
        namespace="embedding-system", reads=CurrentReads(Objects().get), store=store(keys=values)
    )
    return resolver.synced(policies.parsed(), wanted)


def test_synced_secret_takes_all_keys_or_those_it_names():
    held = {"a": b"1", "b": b"2"}
    assert synced(entry(), held).values == held
    assert synced(entry({"a": "A"}), held).values == {"A": b"1"}


def test_synced_key_that_is_missing_does_not_hold_up_others():
    seen = synced(entry({"a": "A", "x": "X"}), {"a": b"1"})
    assert seen.values == {"A": b"1"}
    assert [problem.reason for problem in seen.problems] == ["KeyMissing"]


def test_values_are_masked():
    seen = found(one(SECRET), keys={"openai": b"s3cr3t"})
    assert "s3cr3t" not in repr(seen)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("embedding-main", {"openai": b"sk"}),
        ("copy", {"openai": b"sk", names.secret_class_key("openai"): b"sk-of-the-platform"}),
        ("copy", {"openai": b"sk", names.secret_class_redis_url("openai"): b"redis://:p@r"}),
    ],
)
def test_secret_that_operator_fills_is_no_source(name, held):
    seen = found(one({"secretKeyRef": {"name": name, "key": "openai"}}), **{name: held})
    assert "provider-own" not in seen.values
    assert "provider-own" in seen.refused
    assert [it.reason for it in seen.problems] == ["SecretOfOperator"]
