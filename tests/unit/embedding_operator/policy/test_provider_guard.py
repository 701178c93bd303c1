"""Secrets and hosts that a policy may name, and the refusal of those that it may not."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import credentials
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.policy import allowed_hosts, policy, provider_guard
from embedding_operator.render import secrets
from embedding_operator.status import secret_status
from tests.fakes.secret_store import Store
from tests.parts import policies

KEY = {"secretKeyRef": {"name": "keys", "key": "K"}}
VAULT = {"vault": {"mount": "secret", "path": "shop/redis", "key": "URL"}}
LABELLED = provider_guard.ProviderGuard(require_secret_label=True)
ATLAS = b"al-atlas-key"


def guarded(*entries):
    return provider_guard.ProviderGuard(allowed=allowed_hosts.parse(entries))


def shop(*, providers, cache=None, quota=None, passthrough="https://api.openai.com/v1"):
    """A policy of these providers, with the pass-through at `passthrough` if anywhere."""
    raw = copy.deepcopy(policies.everything()["spec"])
    for part, redis in (("cache", cache), ("quota", quota)):
        raw[part].pop("redis", None)
        raw[part] |= {"redis": redis} if redis else {}
    enabled = {"enabled": passthrough is not None, "baseURL": passthrough or "https://x"}
    return policies.parsed(
        providers=providers,
        cache=raw["cache"],
        quota=raw["quota"],
        passthrough=enabled,
        secrets=None,
    )


def vendor(kind, **more):
    return {"name": kind.lower(), "type": kind, "model": "m", "apiKey": KEY, **more}


def refused(guard, wanted):
    return {it.field.partition(" ")[0] for it in guard.refusals(wanted)}


# --- hosts that stand in a policy, or are built in for it

OWN = policies.compatible("own", apiKey=KEY)
REDIS = {"url": "redis://redis.platform:6379/0"}


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("spec.providers[0].baseURL", shop(providers=[OWN])),
        ("spec.providers[0].baseURL", shop(providers=[vendor("Voyage")])),
        ("spec.providers[1].baseURL", shop(providers=[vendor("OpenAI"), OWN])),
        (
            "spec.passthrough.baseURL",
            shop(providers=[vendor("OpenAI")], passthrough="https://evil.example/v1"),
        ),
        ("spec.cache.redis.url", shop(providers=[vendor("OpenAI")], cache=REDIS)),
        ("spec.quota.redis.url", shop(providers=[vendor("OpenAI")], quota=REDIS)),
    ],
)
def test_url_of_each_field_is_compared_with_list(field, wanted):
    guard = guarded("api.openai.com")
    assert refused(guard, wanted) == {field}
    with pytest.raises(errors.InvalidPolicy) as found:
        guard.check(wanted)
    assert found.value.reason == "HostNotAllowed"
    for said in (field, "providers.allowedHosts", "api.openai.com"):
        assert said in str(found.value)
    assert provider_guard.OFF.refusals(wanted) == ()


AZURE = {
    "name": "azure",
    "type": "AzureOpenAI",
    "model": "text-embedding-3-small",
    "baseURL": "https://shop.openai.azure.com",
    "azure": {
        "deployment": "d",
        "tenantID": "11111111-2222-3333-4444-555555555555",
        "clientID": "11111111-2222-3333-4444-555555555555",
    },
}


def test_receiver_of_pods_identity_is_compared_with_list():
    guard = guarded("shop.openai.azure.com")
    wanted = shop(providers=[AZURE], passthrough=None)
    assert refused(guard, wanted) == {"spec.providers[0].azure.authority"}
    allowed = guarded("shop.openai.azure.com", "login.microsoftonline.com")
    assert allowed.refusals(wanted) == ()


def test_provider_whose_class_is_not_found_calls_nobody():
    wanted = shop(providers=[{"ref": "openai"}], passthrough=None)
    assert guarded("nowhere.example").refusals(wanted) == ()


def test_built_in_host_is_named_in_refusal():
    (found,) = guarded("api.openai.com").refusals(shop(providers=[vendor("Voyage")]))
    assert "left out, so https://api.voyageai.com/v1" in found.message
    assert "host api.voyageai.com, port 443, is not allowed" in found.message


def test_refused_passthrough_says_that_it_can_be_turned_off():
    wanted = shop(providers=[vendor("Voyage")])
    (found,) = guarded("api.voyageai.com").refusals(wanted)
    assert "spec.passthrough.enabled: false" in found.message
    off = shop(providers=[vendor("Voyage")], passthrough=None)
    assert guarded("api.voyageai.com").refusals(off) == ()


@given(st.sampled_from(["own.models.svc", "*.models.svc", "*.models.svc:80", "other.example"]))
def test_policy_is_accepted_exactly_if_every_url_is(entry):
    guard, wanted = guarded(entry), shop(providers=[OWN], passthrough=None)
    is_allowed = allowed_hosts.parse([entry]).allows("http://own.models.svc/v1")
    assert (guard.refusals(wanted) == ()) == is_allowed


# --- what is copied


class Objects(KubeClient):
    """Secrets of the namespace shop: by name, their labels and values. It notes what was read."""

    def __init__(self, **held):
        self._held = held
        self.read = []

    def get(self, kind, namespace, name):
        self.read.append(name)
        if name not in self._held:
            return None
        labels, values = self._held[name]
        found = secrets.of(policies.parsed(), name, values)
        found["metadata"]["labels"] |= labels
        return found


def resolve(guard, wanted, *, vault=None, **held):
    store = Store()
    store.paths = {"secret/shop/redis": {"URL": vault}} if vault else {}
    objects = Objects(**held)
    found = credentials.Credentials(
        namespace="embedding-system", reads=CurrentReads(objects.get), store=store, guard=guard
    ).owned(wanted)
    return found, objects


def reasons(found):
    return {it.reason for it in found.problems}


@pytest.mark.parametrize("label", [None, "", "false", "True", "yes", "true "])
def test_secret_without_label_is_not_copied(label):
    labels = {} if label is None else {names.LABEL_USABLE: label}
    wanted = shop(providers=[vendor("OpenAI")])
    found, _ = resolve(LABELLED, wanted, keys=(labels, {"K": b"sk-1"}))
    assert found.values == {}
    assert found.refused == {"provider-openai"}
    (problem,) = found.problems
    assert problem.reason == "SecretNotUsable"
    for said in ("provider-openai", "Secret keys", f"{names.LABEL_USABLE}=true"):
        assert said in problem.message
    assert "sk-1" not in repr(problem)


@pytest.mark.parametrize("part", ["cache", "quota"])
def test_secret_of_redis_needs_label_too(part):
    wanted = shop(providers=[policies.compatible("own")], **{part: KEY})
    values = {"K": b"redis://:pw@redis.platform"}
    found, _ = resolve(LABELLED, wanted, keys=({}, values))
    assert found.values == {}
    assert found.refused == {f"{part}-redis-url"}
    labelled = ({names.LABEL_USABLE: "true"}, values)
    found, _ = resolve(LABELLED, wanted, keys=labelled)
    assert found.values == {f"{part}-redis-url": b"redis://:pw@redis.platform"}


def test_missing_key_of_unlabelled_secret_is_not_told():
    wanted = shop(providers=[vendor("OpenAI")])
    found, _ = resolve(LABELLED, wanted, keys=({}, {"other": b"sk-1"}))
    assert reasons(found) == {"SecretNotUsable"}


def test_entry_whose_host_is_refused_is_not_even_read():
    wanted = shop(providers=[vendor("OpenAI", baseURL="https://evil.example/v1")])
    found, objects = resolve(guarded("api.openai.com"), wanted, keys=({}, {"K": b"sk-1"}))
    assert objects.read == []
    assert found.values == {}
    (problem,) = found.problems
    assert problem.reason == "HostNotAllowed"
    assert "spec.providers[0].baseURL: host evil.example" in problem.message


REDIS_VALUES = [
    b"redis://:hidden-pw@evil.example:6379/0",
    b"rediss+sentinel://:hidden-pw@redis.platform,evil.example/main",
    b"redis://:hidden-pw@redis.platform/0?port=22",
    b"redis://:hidden-pw@redis.platform@evil.example/0",
    b"unix:///hidden-pw",
    b"hidden-pw",
    b"\xff\xfehidden-pw",
]


@pytest.mark.parametrize("value", REDIS_VALUES)
@pytest.mark.parametrize("where", [KEY, VAULT], ids=["Secret", "Vault"])
def test_secret_redis_url_of_other_host_is_neither_copied_nor_told(where, value):
    wanted = shop(providers=[policies.compatible("own")], cache=where, passthrough=None)
    guard = guarded("*.models.svc", "redis.platform")
    found, _ = resolve(guard, wanted, vault=value, keys=({}, {"K": value}))
    assert found.values == {}
    assert found.refused == {"cache-redis-url"}
    (problem,) = found.problems
    assert problem.reason == "HostNotAllowed"
    assert "cache-redis-url: key" in problem.message
    for hidden in ("hidden-pw", "evil.example", "unix"):
        assert hidden not in problem.message


def test_secret_redis_url_of_listed_host_is_copied():
    wanted = shop(providers=[policies.compatible("own")], cache=KEY, passthrough=None)
    value = b" rediss://u:pw@redis.platform:6380/1\n"
    found, _ = resolve(guarded("*.models.svc", "redis.platform"), wanted, keys=({}, {"K": value}))
    assert found.values == {"cache-redis-url": value}
    assert found.problems == ()


def test_key_that_belongs_to_another_built_in_host_needs_that_host_in_list():
    wanted = shop(providers=[vendor("Voyage")], passthrough=None)
    found, _ = resolve(guarded("api.voyageai.com"), wanted, keys=({}, {"K": ATLAS}))
    assert found.values == {}
    assert reasons(found) == {"HostNotAllowed"}
    both = guarded("api.voyageai.com", "ai.mongodb.com")
    found, _ = resolve(both, wanted, keys=({}, {"K": ATLAS}))
    assert found.values == {"provider-voyage": ATLAS}
    elsewhere = shop(providers=[vendor("Voyage", baseURL="http://gw.models.svc")], passthrough=None)
    found, _ = resolve(guarded("*.models.svc"), elsewhere, keys=({}, {"K": ATLAS}))
    assert found.values == {"provider-voyage": ATLAS}


# --- what is withdrawn


def test_kept_entry_goes_when_its_host_is_no_longer_allowed():
    in_force = policy.to_document(shop(providers=[vendor("OpenAI")]))
    both = policy.to_document(
        policies.parsed(
            providers=[OWN, vendor("OpenAI")], failover={"enabled": False, "acrossSpaces": False}
        )
    )
    held = {
        "provider-own": b"k",
        "provider-openai": b"k",
        names.SECRET_CACHE_REDIS_URL: b"redis://redis.platform",
        names.SECRET_API_TOKEN: b"t",
        names.SECRET_CACHE_KEY: b"c",
    }
    guard = guarded("api.openai.com")
    assert guard.withdrawn(held, both) == {"provider-own", names.SECRET_CACHE_REDIS_URL}
    assert guard.withdrawn(held, in_force) == {names.SECRET_CACHE_REDIS_URL}
    assert guard.withdrawn(held, None) == frozenset()
    assert provider_guard.OFF.withdrawn(held, both) == frozenset()


# --- what is told


def test_verdict_names_what_holds_and_what_does_not():
    status, reason, message = provider_guard.OFF.verdict()
    assert (status, reason) == ("False", "NotGuarded")
    assert "providers.requireSecretLabel and providers.allowedHosts" in message
    labelled, called = LABELLED.verdict(), guarded("api.openai.com").verdict()
    assert labelled[:2] == called[:2] == ("True", "Guarded")
    assert f"{names.LABEL_USABLE}=true" in labelled.message
    assert "providers.allowedHosts is off" in labelled.message
    assert "api.openai.com" in called.message
    assert "providers.requireSecretLabel is off" in called.message


def test_condition_does_not_say_that_refused_value_stays():
    for reason in ("SecretNotUsable", "HostNotAllowed"):
        problems = (errors.Problem("KeyMissing", "m1"), errors.Problem(reason, "m2"))
        made = secret_status.verdict(
            secret_status.Secrets(problems=problems), generation=1, previous={}
        )
        assert made.reason == reason
        assert "values forbid. Other values already in a Secret stay." in made.message
