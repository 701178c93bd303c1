"""D6: a user who may write policies and read no Secret, on a real API server with guards on.

The author names Secrets and addresses; the oracle is what stands in the Secret that sidecars mount.
"""

import json
import re
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from embedding_operator.policy import allowed_hosts, provider_guard
from embedding_operator.render import secrets
from tests.parts import kubectl, reconciling

pytestmark = pytest.mark.cluster

MADE = {names.SECRET_API_TOKEN, names.SECRET_CACHE_KEY}
HIDDEN = "hidden-value-of-another-team"
THEIRS = {"secretKeyRef": {"name": "theirs", "key": "password"}}
GUARDED = provider_guard.ProviderGuard(
    require_secret_label=True,
    allowed=allowed_hosts.parse(["api.openai.com", "*.models.svc", "redis.platform:6379"]),
)
LABEL_ONLY = provider_guard.ProviderGuard(require_secret_label=True)
HOSTS_ONLY = provider_guard.ProviderGuard(allowed=GUARDED.allowed)


def provider(**more: Any) -> dict[str, Any]:
    made = {"name": "own", "type": "OpenAICompatible", "model": "m", "apiKey": THEIRS}
    return {**made, "baseURL": "http://e5.models.svc/v1", **more}


def policy(namespace: str, *providers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {
            "podSelector": {},
            "providers": list(providers) or [provider()],
            "failover": {"enabled": False},
            "alerts": {"enabled": False},
            **spec,
        },
    }


class Shop:
    """A namespace with another team's Secret, and a policy's reconciles under a guard."""

    def __init__(self, user: kubectl.Kubectl, namespace: str) -> None:
        self.user = user
        self.namespace = namespace
        self.run = reconciling.Reconciling(reconciling.connect(user.kubeconfig), namespace)
        user(
            *("create", "secret", "generic", "theirs", "-n", namespace),
            f"--from-literal=password={HIDDEN}",
        )

    def guard(self, guard: provider_guard.ProviderGuard) -> None:
        """The chart's values change: the operator starts anew."""
        self.run.guard = guard
        self.run.restart()

    def apply(self, *providers: dict[str, Any], **spec: Any) -> None:
        self.user.apply(policy(self.namespace, *providers, **spec))
        self.run("search")

    def label(self, word: str, secret: str = "theirs") -> None:
        self.user("label", "secret", secret, "-n", self.namespace, f"{names.LABEL_USABLE}{word}")

    def held(self) -> dict[str, bytes]:
        """What sidecars mount."""
        return secrets.decode(self.run.get(kinds.SECRET, "embedding-search"))

    def document(self) -> dict[str, Any]:
        """What sidecars obey."""
        found = self.run.get(kinds.CONFIG_MAP, "embedding-search-document")
        read: dict[str, Any] = json.loads(found["data"][names.DOCUMENT_KEY])
        return read

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = self.run.condition("search", kind)
        return found["status"], found["reason"], found["message"]

    def told(self) -> str:
        """All that the policy's author may read."""
        objects = [self.run.get(kinds.POLICY, "search"), *self.run.events.told]
        for name in ("document", "environment"):
            found = self.run.objects.get(
                kinds.CONFIG_MAP, self.namespace, f"embedding-search-{name}"
            )
            objects.append(found or {})
        return repr(objects)


@pytest.fixture
def shop(api_server: kubectl.Kubectl, namespace: str) -> Shop:
    return Shop(api_server, namespace)


# --- the label

REFERENCES = {
    "key of a provider": {},
    "cache's Redis": {"cache": {"redis": THEIRS}},
    "quota's Redis": {"quota": {"redis": THEIRS}},
}


def test_unguarded_policy_says_that_it_may_send_any_secret_anywhere(shop):
    shop.apply(provider(baseURL="https://evil.example/v1"))
    assert shop.held()["provider-own"] == HIDDEN.encode()
    status, reason, message = shop.condition("ProvidersGuarded")
    assert (status, reason) == ("False", "NotGuarded")
    assert "send any Secret of this namespace to any host" in message
    assert shop.condition("Ready")[0] == "True"


@pytest.mark.parametrize("spec", REFERENCES.values(), ids=REFERENCES)
def test_secret_without_label_reaches_no_sidecar(shop, spec):
    shop.guard(LABEL_ONLY)
    providers = [provider()] if not spec else [{**provider(), "apiKey": None}]
    shop.apply(*({k: v for k, v in it.items() if v is not None} for it in providers), **spec)
    assert shop.held().keys() == MADE
    status, reason, message = shop.condition("SecretsSynced")
    assert (status, reason) == ("False", "SecretNotUsable")
    assert "Secret theirs" in message
    assert f"{names.LABEL_USABLE}=true" in message
    assert shop.condition("Ready")[:2] == ("False", "SecretNotUsable")
    assert shop.condition("ProvidersGuarded")[:2] == ("True", "Guarded")
    assert HIDDEN not in shop.told()


def test_secret_of_another_policy_cannot_be_named_either(shop):
    shop.guard(LABEL_ONLY)
    shop.label("=true")
    shop.apply()
    taken = {"secretKeyRef": {"name": "embedding-search", "key": "provider-own"}}
    other = policy(shop.namespace, provider(apiKey=taken, baseURL="https://evil.example/v1"))
    other["metadata"]["name"] = "thief"
    shop.user.apply(other)
    shop.run("thief")
    assert secrets.decode(shop.run.get(kinds.SECRET, "embedding-thief")).keys() == MADE
    assert shop.run.condition("thief", "SecretsSynced")["reason"] == "SecretOfOperator"


def test_labelled_secret_is_used_and_without_its_label_taken_out_again(shop):
    shop.guard(LABEL_ONLY)
    shop.label("=true")
    shop.apply()
    assert shop.held()["provider-own"] == HIDDEN.encode()
    before = shop.held()
    assert shop.condition("Ready")[0] == "True"
    shop.label("-")
    again = shop.run("search")
    assert again is not None
    assert again < 60
    assert shop.held() == {key: before[key] for key in MADE}
    message = shop.condition("SecretsSynced")[2]
    assert "values forbid. Other values already in a Secret stay." in message
    shop.label("=true")
    shop.run("search")
    assert shop.held() == before
    assert shop.condition("Ready")[0] == "True"


def test_secret_that_is_deleted_keeps_its_last_value(shop):
    """What cannot be read is no refusal, with the guard as without."""
    shop.guard(LABEL_ONLY)
    shop.label("=true")
    shop.apply()
    shop.user("delete", "secret", "theirs", "-n", shop.namespace)
    shop.run("search")
    assert shop.held()["provider-own"] == HIDDEN.encode()
    assert shop.condition("SecretsSynced")[1] == "SecretMissing"


def test_switched_on_guard_takes_out_what_was_copied_before(shop):
    shop.apply()
    assert shop.held()["provider-own"] == HIDDEN.encode()
    shop.guard(LABEL_ONLY)
    shop.run("search")
    assert shop.held().keys() == MADE


# --- hosts

OPENAI = {"name": "openai", "type": "OpenAI", "model": "m", "apiKey": THEIRS}
VOYAGE = {"name": "voyage", "type": "Voyage", "model": "m", "apiKey": THEIRS}
REFUSED: dict[str, tuple[str, str, list[dict[str, Any]], dict[str, Any]]] = {
    "a provider's": (
        "spec.providers[0].baseURL",
        "evil.example",
        [provider(baseURL="https://evil.example/v1")],
        {},
    ),
    "the built-in one": ("spec.providers[0].baseURL", "api.voyageai.com", [VOYAGE], {}),
    "the pass-through's": (
        "spec.passthrough.baseURL",
        "evil.example",
        [provider()],
        {"passthrough": {"baseURL": "https://evil.example/v1"}},
    ),
    "the cache's": (
        "spec.cache.redis.url",
        "evil.example",
        [provider()],
        {"cache": {"redis": {"url": "redis://evil.example:6379"}}},
    ),
    "one of several of the quota's": (
        "spec.quota.redis.url",
        "evil.example",
        [provider()],
        {"quota": {"redis": {"url": "redis+cluster://redis.platform:6379,evil.example:6379"}}},
    ),
}


@pytest.mark.parametrize(
    ("field", "host", "providers", "spec"), REFUSED.values(), ids=REFUSED.keys()
)
def test_host_that_is_not_listed_leaves_last_document(shop, field, host, providers, spec):
    shop.guard(HOSTS_ONLY)
    shop.apply(OPENAI)
    document, held = shop.document(), shop.held()
    assert held["provider-openai"] == HIDDEN.encode()
    shop.apply(*providers, **spec)
    assert shop.document() == document
    assert shop.held()["provider-openai"] == HIDDEN.encode()
    status, reason, message = shop.condition("Accepted")
    assert (status, reason) == ("False", "HostNotAllowed")
    for said in (field, f"host {host}, port", "providers.allowedHosts", "*.models.svc"):
        assert said in message
    assert shop.condition("Ready")[:2] == ("False", "HostNotAllowed")
    assert shop.condition("ConfigInForce")[:2] == ("False", "NotAccepted")
    shop.apply(OPENAI)
    assert shop.condition("Ready")[0] == "True"


TRICKS = [
    "https://EVIL.example/v1",
    "https://api.openai.com.evil.example/v1",
    "https://evil-api.openai.com/v1",
    "https://api.openai.com./v1",
    "https://xn--api-openi-2fg.com/v1",
    "https://a.b.models.svc/v1",
    "http://127.0.0.1:8485/v1",
    "http://2130706433/v1",
    "http://0x7f.1/v1",
    "http://[::1]:8485/v1",
    "http://[::ffff:169.254.169.254]/latest",
    "http://169.254.169.254/latest",
]


@pytest.mark.parametrize("url", TRICKS)
def test_trick_in_url_copies_nothing(shop, url):
    shop.guard(HOSTS_ONLY)
    shop.apply(provider(baseURL=url))
    assert shop.held().keys() == MADE
    assert shop.condition("Accepted")[:2] == ("False", "HostNotAllowed")
    assert (
        shop.run.objects.get(kinds.CONFIG_MAP, shop.namespace, "embedding-search-document") is None
    )
    assert HIDDEN not in shop.told()


@pytest.mark.parametrize(
    "url", ["https://u@api.openai.com/v1", "https://api.openai.com@evil.example", "https:///x"]
)
def test_url_with_user_or_without_host_is_refused_by_api_server(shop, url):
    with pytest.raises(AssertionError, match=r"must (be a URL|have no user)"):
        shop.user.apply(policy(shop.namespace, provider(baseURL=url)))


def test_host_in_capitals_is_same_host(shop):
    shop.guard(HOSTS_ONLY)
    shop.apply(provider(baseURL="https://API.OpenAI.com:8443/v1"))
    assert shop.held()["provider-own"] == HIDDEN.encode()
    assert shop.condition("Ready")[0] == "True"


@pytest.mark.parametrize(
    "value",
    [
        f"redis://:{HIDDEN}@evil.example:6379",
        f"redis://:{HIDDEN}@redis.platform:6380",
        f"redis://:{HIDDEN}@redis.platform?port=22",
        HIDDEN,
    ],
)
def test_redis_url_of_secret_is_compared_and_nothing_of_it_told(shop, value):
    shop.guard(HOSTS_ONLY)
    shop.user(
        *("create", "secret", "generic", "redis", "-n", shop.namespace),
        f"--from-literal=url={value}",
    )
    keyless = {key: it for key, it in provider().items() if key != "apiKey"}
    shop.apply(keyless, cache={"redis": {"secretKeyRef": {"name": "redis", "key": "url"}}})
    assert shop.held().keys() == MADE
    status, reason, message = shop.condition("SecretsSynced")
    assert (status, reason) == ("False", "HostNotAllowed")
    assert "key url of Secret redis" in message
    for hidden in (HIDDEN, "evil", "6380", "port=22"):
        assert hidden not in message
    assert HIDDEN not in shop.told()


def test_list_that_loses_host_takes_key_away_and_leaves_document(shop):
    keyed = {"cache": {"redis": {"url": "redis://redis.platform:6379"}}}
    shop.apply(provider(baseURL="https://evil.example/v1"), {**OPENAI}, **keyed)
    document, before = shop.document(), shop.held()
    assert before.keys() == MADE | {"provider-own", "provider-openai", "cache-redis-url"}
    shop.guard(HOSTS_ONLY)
    shop.run("search")
    assert shop.document() == document
    kept = {key: value for key, value in before.items() if key != "provider-own"}
    assert shop.held() == kept
    assert shop.condition("Accepted")[:2] == ("False", "HostNotAllowed")
    shop.guard(provider_guard.ProviderGuard(allowed=allowed_hosts.parse(["api.openai.com"])))
    shop.run("search")
    assert shop.held().keys() == MADE | {"provider-openai"}


def test_refused_policy_does_not_bring_another_secret_to_host_in_force(shop):
    shop.guard(GUARDED)
    shop.user(
        *("create", "secret", "generic", "mine", "-n", shop.namespace),
        "--from-literal=password=sk-mine-1",
    )
    shop.label("=true", "mine")
    mine = {"secretKeyRef": {"name": "mine", "key": "password"}}
    shop.apply(provider(apiKey=mine))
    assert shop.held()["provider-own"] == b"sk-mine-1"
    shop.label("=true", "theirs")
    shop.apply(provider(baseURL="https://evil.example/v1"))
    assert shop.held()["provider-own"] == b"sk-mine-1"


def test_policy_under_both_guards_is_ready_and_written_once(shop):
    shop.guard(GUARDED)
    shop.label("=true")
    shop.apply(OPENAI)
    assert shop.condition("Ready")[0] == "True"
    message = shop.condition("ProvidersGuarded")[2]
    assert names.LABEL_USABLE in message
    assert re.search(r"api\.openai\.com, \*\.models\.svc, redis\.platform:6379", message)
    before = shop.run.get(kinds.POLICY, "search")
    shop.run.restart()
    shop.run("search")
    assert shop.run.get(kinds.POLICY, "search") == before


def test_refused_policy_is_as_stable_as_good_one(shop):
    shop.guard(GUARDED)
    shop.apply(provider(baseURL="https://evil.example/v1"), OPENAI)
    before = (shop.run.get(kinds.POLICY, "search"), shop.held(), len(shop.run.events.told))
    for _ in range(2):
        shop.run("search")
    after = (shop.run.get(kinds.POLICY, "search"), shop.held(), len(shop.run.events.told))
    assert after == before
