"""Policies of a ClusterEmbeddingProvider, reconciled on a real API server."""

import base64
import contextlib
import json
from typing import Any

import pytest

from embedding_contract import document, names
from embedding_operator.kube import kinds
from embedding_operator.policy import allowed_hosts, provider_guard
from embedding_operator.render import secrets
from tests.parts import reconciling
from tests.parts.kubectl import KubectlError

pytestmark = pytest.mark.cluster

ENTRY = names.secret_class_key("openai")
KEY = "sk-of-the-platform"
ALLOWED = {"embedding": "allowed"}
OWN = {
    "name": "own",
    "type": "OpenAICompatible",
    "model": "text-embedding-3-small",
    "baseURL": "http://own.models.svc/v1",
    "space": "openai/text-embedding-3-small",
}
CLASS: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.CLASS_KIND,
    "metadata": {"name": "openai"},
    "spec": {
        "type": "OpenAI",
        "apiKey": {"secretKeyRef": {"name": "openai", "key": "KEY"}},
        "models": [{"model": "text-embedding-3-small", "aliases": ["small"]}],
        "namespaceSelector": {"matchLabels": ALLOWED},
    },
}


@pytest.fixture(scope="module")
def system(api_server):
    """The API server, with the operator's namespace."""
    api_server.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": reconciling.SYSTEM}}
    )
    return api_server


@pytest.fixture
def shops(system, namespace):
    """Two namespaces that may use the class, which exists with its key, and one that may not."""
    write_key(system, KEY)
    system.apply(CLASS)
    found = []
    for name in (namespace, f"{namespace}-b", f"{namespace}-c"):
        if name != namespace:
            system("create", "namespace", name)
        found.append(reconciling.Reconciling(reconciling.connect(system.kubeconfig), name))
    for run in found[:2]:
        system("label", "namespace", run.namespace, "embedding=allowed")
    for run in found:
        apply(system, run)
    yield found
    for run in found:
        system("delete", "embpol", "--all", "-n", run.namespace)
    for run in found[1:]:
        system("delete", "namespace", run.namespace, "--wait=false")
    system("delete", "cembp", "--all")
    system("delete", "secret", "openai", "-n", reconciling.SYSTEM, "--ignore-not-found")


def write_key(system, value):
    system.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "openai", "namespace": reconciling.SYSTEM},
            "data": {"KEY": base64.b64encode(value.encode()).decode()},
        }
    )


def apply(system, run, *, providers=({"ref": "openai"},), **spec):
    system.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": run.namespace},
            "spec": {"podSelector": {}, "providers": list(providers), **spec},
        }
    )


def edited(**spec):
    return {**CLASS, "spec": {**CLASS["spec"], **spec}}


def held(run):
    return secrets.decode(run.get(kinds.SECRET, names.owned_secret("search")))


def accepted(run):
    found = run.condition("search", "Accepted")
    return found["status"], found["reason"]


def text(run):
    found = run.get(kinds.CONFIG_MAP, names.document_configmap("search"))
    return found["data"][names.DOCUMENT_KEY]


def test_two_namespaces_get_key_and_third_is_refused_with_condition(shops):
    for run in shops[:2]:
        run("search")
        assert held(run)[ENTRY] == KEY.encode()
        assert accepted(run) == ("True", "Accepted")
        assert run.status("search")["provider"] == "OpenAI/text-embedding-3-small"
        made = json.loads(text(run))
        assert made["requires"] == ["class", "signature"]
        assert made["providers"][0]["class"] == "openai"
        assert made["providers"][0]["apiKeyFile"] == ENTRY
        assert made["providers"][0]["aliases"] == ["small"]
    third = shops[2]
    third("search")
    assert set(held(third)) == {names.SECRET_API_TOKEN, names.SECRET_CACHE_KEY}
    assert accepted(third) == ("False", "ClassForbidden")
    message = third.condition("search", "Accepted")["message"]
    for said in ("spec.providers[0].ref", "ClusterEmbeddingProvider openai", third.namespace):
        assert said in message
    name = names.document_configmap("search")
    assert third.objects.get(kinds.CONFIG_MAP, third.namespace, name) is None


def test_class_says_who_uses_it_and_whether_its_key_is_there(shops, system):
    status = shops[0].provider_class("openai")
    assert (status["policies"], status["namespaces"], status["refused"]) == (2, 2, 1)
    assert reasons(status) == {
        "Ready": "Ready",
        "Accepted": "Accepted",
        "KeyAvailable": "Available",
    }
    system("delete", "secret", "openai", "-n", reconciling.SYSTEM)
    status = shops[0].provider_class("openai")
    assert reasons(status)["Ready"] == reasons(status)["KeyAvailable"] == "SecretMissing"


def reasons(status):
    return {it["type"]: it["reason"] for it in status["conditions"]}


def test_key_stands_in_no_object_but_owned_secrets(shops, system):
    for run in shops:
        run("search")
        run.provider_class("openai")
        listed = "secrets,configmaps,events,embeddingpolicies"
        for item in system.get(listed, "-n", run.namespace)["items"]:
            has_key = (base64.b64encode(KEY.encode()).decode() in json.dumps(item)) or (
                KEY in json.dumps(item)
            )
            is_owned = item["metadata"]["name"] == names.owned_secret("search")
            assert has_key == (is_owned and item["kind"] == "Secret" and run is not shops[2])
    assert KEY not in json.dumps(system.get("cembp", "openai"))


def test_namespace_that_loses_right_loses_key_and_keeps_document(shops, system):
    run, other, _ = shops
    run("search")
    other("search")
    before = text(run)
    system("label", "namespace", run.namespace, "embedding-")
    for _ in range(2):  # the second finds nothing to remove
        assert run("search") is None
    other("search")
    assert ENTRY not in held(run)
    assert held(other)[ENTRY] == KEY.encode()
    assert text(run) == before
    assert accepted(run) == ("False", "ClassForbidden")
    synced = run.condition("search", "SecretsSynced")
    assert (synced["status"], synced["reason"]) == ("False", "ClassForbidden")
    assert ENTRY in synced["message"]
    system("label", "namespace", run.namespace, "embedding=allowed")
    run("search")
    assert held(run)[ENTRY] == KEY.encode()
    assert accepted(run) == ("True", "Accepted")


def test_lost_right_takes_key_from_policy_refused_for_another_reason(shops, system):
    run = shops[0]
    run("search")
    refs = [{"ref": "openai"}, {**OWN, "space": "another"}]
    apply(system, run, providers=refs)
    run("search")
    assert accepted(run) == ("False", "SpacesDiffer")
    assert held(run)[ENTRY] == KEY.encode()  # the last good document needs it
    system("label", "namespace", run.namespace, "embedding-")
    run("search")
    assert ENTRY not in held(run)


def test_key_goes_when_policy_no_longer_names_class(shops, system):
    run = shops[0]
    run("search")
    apply(system, run, providers=[OWN])
    run("search")
    assert ENTRY not in held(run)


@pytest.mark.parametrize("held_up", [True, False], ids=["by finalizer", "with orphans"])
def test_key_leaves_secret_that_outlives_its_policy(shops, system, held_up):
    """A tenant may hold up the deletion of a policy, or delete it without what it owns."""
    run = shops[0]
    run("search")
    policy = ("embpol", "search", "-n", run.namespace)
    patch = json.dumps({"metadata": {"finalizers": ["tenant.example/never"]}})
    if held_up:
        system("patch", *policy, "--type=merge", "-p", patch)
    system("delete", *policy, "--cascade=orphan", "--wait=false")
    none = json.dumps({"metadata": {"finalizers": None}})
    if not held_up:
        with contextlib.suppress(KubectlError):  # the garbage collector may have been faster
            system("patch", *policy, "--type=merge", "-p", none)
        assert run.objects.get(kinds.POLICY, run.namespace, "search") is None
    run("search")
    assert names.SECRET_API_TOKEN in held(run)
    assert ENTRY not in held(run)
    if held_up:
        system("patch", *policy, "--type=merge", "-p", none)


def test_deleted_class_is_named_and_its_key_goes(shops, system):
    run = shops[0]
    run("search")
    before = text(run)
    system("delete", "cembp", "openai")
    run("search")
    assert ENTRY not in held(run)
    assert text(run) == before
    assert accepted(run) == ("False", "ClassMissing")
    assert "ClusterEmbeddingProvider openai" in run.condition("search", "Accepted")["message"]


@pytest.mark.parametrize(
    ("entry", "reason", "said"),
    [
        ({"ref": "nothing"}, "ClassMissing", "no ClusterEmbeddingProvider nothing"),
        ({"ref": "openai", "model": "other"}, "ModelMissing", "text-embedding-3-small"),
    ],
)
def test_ref_to_nothing_is_refused_and_no_key_comes(shops, system, entry, reason, said):
    run = shops[0]
    apply(system, run, providers=[entry])
    run("search")
    assert accepted(run) == ("False", reason)
    assert said in run.condition("search", "Accepted")["message"]
    assert ENTRY not in held(run)


def test_network_of_policy_is_refused_beside_class(shops, system):
    run = shops[0]
    run.restart(network=reconciling.OPEN_NETWORK)
    proxy = {"network": {"proxy": {"https": "http://proxy.evil.example:3128"}}}
    apply(system, run, sidecar=proxy)
    run("search")
    assert accepted(run) == ("False", "NetworkNotAllowed")
    assert "spec.sidecar.network" in run.condition("search", "Accepted")["message"]
    assert ENTRY not in held(run)


def test_address_of_class_needs_no_place_among_allowed_hosts(shops, system):
    run = shops[0]
    guard = provider_guard.ProviderGuard(allowed=allowed_hosts.parse(["own.models.svc"]))
    run.guard = guard
    run.restart()
    spec = {"failover": {"enabled": False}, "passthrough": {"enabled": False}}
    apply(system, run, providers=[{"ref": "openai"}, OWN], **spec)
    run("search")
    assert accepted(run) == ("True", "Accepted")
    assert held(run)[ENTRY] == KEY.encode()
    evil = {**OWN, "baseURL": "https://evil.example/v1"}
    apply(system, run, providers=[{"ref": "openai"}, evil], **spec)
    run("search")
    assert accepted(run) == ("False", "HostNotAllowed")


def test_new_key_is_not_sent_where_class_no_longer_is(shops, system):
    """The last good document calls the old address; the class has moved to another."""
    run = shops[0]
    run("search")
    apply(system, run, providers=[{"ref": "openai"}, {**OWN, "space": "another"}])
    run("search")
    system.apply(edited(baseURL="https://new.example/v1"))
    write_key(system, "sk-of-the-new-address")
    run("search")
    assert ENTRY not in held(run)
    assert "another address" in run.condition("search", "SecretsSynced")["message"]


def test_value_of_class_is_removed_from_policy_that_does_not_parse(shops, system):
    run = shops[0]
    run("search")
    system("label", "namespace", run.namespace, "embedding-")
    invalid = without_schema(run)
    invalid("search")
    assert ENTRY not in held(run)
    assert names.SECRET_API_TOKEN in held(run)


def without_schema(run):
    """The reconciler on a policy that was stored before the schema had its present form."""
    real = run.objects

    class Objects:
        def __getattr__(self, name):
            return getattr(real, name)

        def get(self, kind, namespace, name):
            found = real.get(kind, namespace, name)
            if kind is kinds.POLICY:
                found["spec"]["providers"] = [{"name": "openai"}]
            return found

    run.restart(reads=Objects())
    return run


def test_ceilings_rate_and_redis_of_class_are_in_document(shops, system):
    run = shops[0]
    system.apply(
        edited(
            perPolicy={"daily": {"requests": 100, "cost": "1.50"}, "monthly": {"tokens": 9}},
            rate={"requestsPerMinute": 60},
            redis={"url": "redis://limits.platform.svc:6379/0"},
        )
    )
    run("search")
    assert accepted(run) == ("True", "Accepted")
    made = json.loads(text(run))
    assert made["providers"][0]["pricePerMillionTokens"] == "0.02"
    (limits,) = made["classes"]
    assert limits["name"] == "openai"
    assert limits["rate"] == {"requestsPerMinute": 60}
    assert limits["quota"]["daily"] == {"requests": 100, "tokens": None, "cost": "1.5"}
    assert limits["quota"]["monthly"]["tokens"] == 9
    file = limits["quota"]["redisURLFile"]
    assert held(run)[file] == b"redis://limits.platform.svc:6379/0"
    assert set(made["requires"]) - {"class"} <= document.FEATURES


def test_operators_namespace_is_where_secret_of_class_is_read(shops, system):
    """A Secret of that name in the policy's namespace is not the platform's."""
    run = shops[0]
    secret = ("create", "secret", "generic", "openai", "--from-literal=KEY=sk-of-the-tenant")
    system(*secret, "-n", run.namespace)
    run("search")
    assert held(run)[ENTRY] == KEY.encode()


def test_missing_key_of_class_does_not_tell_tenant_where_it_is(shops, system):
    run = shops[0]
    system("delete", "secret", "openai", "-n", reconciling.SYSTEM)
    run("search")
    synced = run.condition("search", "SecretsSynced")
    assert (synced["status"], synced["reason"]) == ("False", "ClassKeyMissing")
    assert reconciling.SYSTEM not in synced["message"]
    assert "KEY " not in synced["message"]


def everything(run):
    return [
        run.get(kinds.POLICY, "search"),
        run.get(kinds.SECRET, names.owned_secret("search")),
        run.get(kinds.CONFIG_MAP, names.document_configmap("search")),
    ]


def test_reconcile_of_class_and_policy_is_stable(shops):
    run = shops[0]
    run("search")
    run.provider_class("openai")
    before = everything(run)
    seen = run.objects.get(kinds.PROVIDER_CLASS, None, "openai")
    run.restart()
    run("search")
    run.provider_class("openai")
    assert everything(run) == before
    assert run.objects.get(kinds.PROVIDER_CLASS, None, "openai") == seen
