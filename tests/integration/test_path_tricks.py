"""Tricks by which a tenant may try to reach another's secrets: none reads or writes them.

Each is tried against the guard alone (a root token behind it), against Vault's role alone (a guard
that allows everything before it), and against both. OpenBao and its TokenReview are real.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator import vault
from embedding_operator.kube import client, kinds
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.render import secrets
from embedding_operator.vault import access_rules, failures, sessions
from tests.parts import fault_proxy, kubectl, reconciling
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

SHOP, BANK = "shop", "bank"
THEIRS = "s3cr3t-of-the-bank"
OWN = {"KEY": b"own"}
IDENTITY = vault.Identity(SHOP, "embedding-vault", "reader")
RULES = access_rules.parse([{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}])

PATHS = [
    "bank/keys",
    "Bank/keys",
    "BANK/KEYS",
    "shop",
    "shop/",
    "shop/.",
    "shop/..",
    "shop/../bank/keys",
    "shop/../../secret/data/bank/keys",
    "shop/../../../other/data/bank/keys",
    "shop/./../bank/keys",
    "shop/x/../../bank/keys",
    "shop/keys/../../bank/keys",
    "shop/keys/..",
    "shop/keys/.",
    "shop/...",
    "shop/.../bank",
    "./bank/keys",
    "../bank/keys",
    "..",
    ".",
    "",
    "/",
    "/bank/keys",
    "//bank/keys",
    "shop//bank/keys",
    "shop//../bank/keys",
    "shop///keys",
    "shop/%2e%2e/bank/keys",
    "shop/%2E%2E/bank/keys",
    "shop/%2e./bank/keys",
    "shop/.%2e/bank/keys",
    "shop/%252e%252e/bank/keys",
    "shop%2f..%2fbank%2fkeys",
    "shop/..%2fbank/keys",
    "shop/..%5cbank/keys",
    "%62ank/keys",
    "shop\\..\\bank\\keys",
    "shop/..\\bank/keys",
    "shop/..;/bank/keys",
    "shop/..;x=1/bank/keys",
    "bank/keys?",
    "shop/keys?path=bank/keys",
    "shop/keys?version=1",
    "shop?list=true",
    "shop/keys#/../bank/keys",
    "bank/keys#",
    "shop/keys\x00/../bank/keys",
    "shop/keys\n",
    "shop/keys\r\nX-Vault-Token: root",
    "shop/\tkeys",
    "shop/ keys",
    " bank/keys",
    "bank/keys ",
    "bank/keys.",
    "bank./keys",
    "bank/keys/",
    "shop/\uff0e\uff0e/bank/keys",
    "shop/\u2025/bank/keys",
    "shop\u2215bank\u2215keys",
    "b\u0430nk/keys",
    "ban\u212a/keys",
    "\u202ebank/keys",
    "ba\u200bnk/keys",
    "ba\u0308nk/keys",
    "{{namespace}}/keys",
    "{{ namespace }}/keys",
    "{{identity.entity.name}}/keys",
    "*",
    "*/keys",
    "+/keys",
    "shop/*",
    "shopping/keys",
    "shop-bank/keys",
    "sho/keys",
    "~/keys",
    "$(id)/keys",
    "http://127.0.0.1/bank/keys",
    "shop/" + "a/" * 300 + "keys",
]
MOUNTS = [
    ("secret/data", "bank/keys"),
    ("secret/data/bank", "keys"),
    ("secret/metadata", "bank/keys"),
    ("secret/data/shop/../bank", "keys"),
    ("secret/", "bank/keys"),
    ("/secret", "bank/keys"),
    ("secret//", "bank/keys"),
    ("secret/../other", "bank/keys"),
    ("secret/..", "other/data/bank/keys"),
    ("sec%72et", "bank/keys"),
    ("SECRET", "bank/keys"),
    ("other", "bank/keys"),
    ("other", "shop/keys"),
    ("secret", "data/bank/keys"),
    ("secret", "metadata/bank/keys"),
    ("first", "bank/keys"),
    ("first", "shop/../bank/keys"),
    ("sys", "mounts"),
    ("sys", "internal/ui/mounts"),
    ("sys/raw", "logical"),
    ("auth/token", "lookup-self"),
    ("auth/kubernetes", "config"),
    ("cubbyhole", "keys"),
    ("identity", "entity/id"),
    ("", "secret/data/bank/keys"),
    (".", "secret/data/bank/keys"),
    ("..", "v1/secret/data/bank/keys"),
    ("secret?x=", "bank/keys"),
    ("tenant/secret", "bank/keys"),
]
TRICKS = [("secret", path) for path in PATHS] + MOUNTS


class Open(access_rules.AccessRules):
    """A guard that somebody left open."""

    def refusal(self, **_: str) -> None:
        return None


class Bank:
    """A Vault with values of the bank wherever a trick may lead, behind a proxy that counts."""

    def __init__(self, server: real.Vault) -> None:
        self.server = server
        self.proxy = fault_proxy.Proxy(int(server.address.rpartition(":")[2]))
        client = server.client()
        real.mount_second_version(client, "other")
        client.sys.enable_secrets_engine("kv", path="first", options={"version": "1"})
        theirs, kept = {"KEY": THEIRS}, client.secrets.kv
        for path in ("bank/keys", "shopping/keys", "shop-bank/keys", "sho/keys", "data/bank/keys"):
            for mount in ("secret", "other"):
                kept.v2.create_or_update_secret(path, theirs, mount_point=mount)
            kept.v1.create_or_update_secret(path, theirs, mount_point="first")
        # With version 1 this is a path of the bank, and looks like shop/keys with version 2.
        metadata = {"version": 1, "created_time": "2026-01-01T00:00:00Z"}
        looks = {"data": theirs, "metadata": metadata | {"deletion_time": "", "destroyed": False}}
        kept.v1.create_or_update_secret("data/shop/keys", looks, mount_point="first")
        server.write("shop/keys", KEY="own")

    def poller(
        self, tokens: vault.Tokens, *, rules: access_rules.AccessRules, method: str
    ) -> vault.Poller:
        settings = vault.Settings(
            address=self.proxy.address,
            method=method,
            token_file=self.server.token_file if method == "token" else None,
        )
        return vault.connect(settings=settings, rules=rules, tokens=tokens, changed=lambda _: None)


@pytest.fixture(scope="module")
def bank(tmp_path_factory, api_server: kubectl.Kubectl) -> Iterator[Bank]:
    server = real.Vault(tmp_path_factory.mktemp("vault"))
    server.start()
    try:
        for namespace in (SHOP, BANK):
            api_server.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "embedding-vault", "namespace": namespace},
                },
            )
        server.trust(api_server, namespace=SHOP)
        made = Bank(server)
        yield made
        made.proxy.down()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def tokens(api_server) -> client.KubeClient:
    return reconciling.connect(api_server.kubeconfig)


@pytest.fixture(scope="module")
def pollers(bank, tokens) -> dict[str, vault.Poller]:
    return {
        "the guard alone": bank.poller(tokens, rules=RULES, method="token"),
        "Vault alone": bank.poller(tokens, rules=Open(), method="kubernetes"),
        "both": bank.poller(tokens, rules=RULES, method="kubernetes"),
    }


def read(poller: vault.Poller, mount: str, path: str) -> vault.Reading:
    """What a policy of the shop gets that refers to this."""
    address = vault.Address(IDENTITY, mount, path)
    poller.follow(ObjectKey(SHOP, "search"), frozenset({address}))
    poller.poll(address)
    try:
        return poller.read(address)
    finally:
        poller.follow(ObjectKey(SHOP, "search"), frozenset())


DEFENCES = ("the guard alone", "Vault alone", "both")


@pytest.mark.parametrize("defence", DEFENCES)
def test_secrets_of_own_namespace_are_read(pollers, defence):
    assert read(pollers[defence], "secret", "shop/keys").values == OWN


def test_path_of_first_version_is_not_taken_for_one_of_second(bank, tokens):
    first = access_rules.parse([{"namespace": "*", "mount": "first", "path": "{{namespace}}/*"}])
    guarded = bank.poller(tokens, rules=first, method="token")
    found = read(guarded, "first", "shop/keys")
    assert found.problem is not None
    assert found.problem.reason == "PathMissing"


def test_tricks_succeed_without_guard_and_role(bank, tokens):
    unguarded = bank.poller(tokens, rules=Open(), method="token")
    for mount in ("secret", "other", "first"):
        assert read(unguarded, mount, "bank/keys").values == {"KEY": THEIRS.encode()}
    assert read(unguarded, "secret", "shop/../bank/keys").values == {"KEY": THEIRS.encode()}


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize(("mount", "path"), TRICKS)
def test_trick_reads_nothing_of_others_and_writes_nothing(bank, pollers, defence, mount, path):
    bank.proxy.calls.clear()
    found = read(pollers[defence], mount, path)
    assert found.values in (None, OWN)
    assert THEIRS not in repr(found)
    asked = [
        (method, where)
        for method, where in bank.proxy.calls
        if not where.startswith(("/v1/auth/kubernetes/login", "/v1/auth/token/re"))
    ]
    assert {method for method, _ in asked} <= {"GET"}
    if found.problem is not None and found.problem.reason == "PathNotAllowed":
        assert asked == []


@pytest.mark.parametrize(("mount", "path"), TRICKS)
def test_guard_refuses_trick_or_it_stays_within_shop(mount, path):
    refused = RULES.refusal(namespace=SHOP, mount=mount, path=path)
    if refused is None:
        assert mount == "secret"
        assert path.startswith("shop/")
        assert not {".", "..", ""} & set(path.split("/"))
    else:
        assert "vault.allowed" in refused.message or "is not plain" in refused.message


def test_list_has_sixty_tricks():
    assert len(set(TRICKS)) >= 60


# --- another's ServiceAccount

ACCOUNTS = [
    "bank/embedding-vault",
    "../../bank/serviceaccounts/embedding-vault",
    "../embedding-vault",
    "..%2f..%2fbank%2fserviceaccounts%2fembedding-vault",
    "embedding-vault/../../../bank/serviceaccounts/embedding-vault",
    "embedding-vault/token?x=",
    "embedding-vault#",
    "system:serviceaccount:bank:embedding-vault",
    "Embedding-Vault",
    "embedding-vault.",
    "embedding-vault ",
    "",
    "..",
    "*",
]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_name_of_service_account_is_way_to_another(bank, tokens, account):
    held = sessions.Sessions(
        settings=vault.Settings(address=bank.proxy.address),
        tokens=tokens,
        observe=lambda _: None,
        clock=lambda: 0.0,
    )
    bank.proxy.calls.clear()
    with pytest.raises(failures.VaultReadError):
        held.get(IDENTITY._replace(service_account=account))
    assert bank.proxy.calls == [], "nobody signed in"


def test_token_of_another_namespaces_account_is_of_no_use_for_shops_role(bank, tokens):
    held = sessions.Sessions(
        settings=vault.Settings(address=bank.proxy.address),
        tokens=tokens,
        observe=lambda _: None,
        clock=lambda: 0.0,
    )
    with pytest.raises(failures.VaultReadError) as refusal:
        held.get(IDENTITY._replace(namespace=BANK))
    assert refusal.value.reason == "LoginRefused"


# --- policies, as the API server takes them

TARGETS = [
    "bank/keys",
    "../bank/keys",
    "../../bank/secrets/keys",
    "keys.",
    ".keys",
    "..",
    "Keys",
    "k\u0435ys",
    "keys ",
    "keys%2f",
    "",
    "embedding-search",
    "embedding-other",
    "keys",
]
FOREIGN = {"theirs": b"1"}


def policy(**spec: Any) -> dict[str, Any]:
    provider = {
        "name": "local",
        "type": "OpenAICompatible",
        "model": "e5",
        "baseURL": "http://e5.models.svc/v1",
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": SHOP},
        "spec": {"podSelector": {}, "providers": [provider], **spec},
    }


def held(api: client.KubeClient, namespace: str) -> dict[str, dict[str, bytes]]:
    """All Secrets of a namespace."""
    return {it["metadata"]["name"]: secrets.decode(it) for it in api.find(kinds.SECRET, namespace)}


@pytest.fixture
def run(api_server, bank, tokens) -> Iterator[reconciling.Reconciling]:
    made = reconciling.Reconciling(tokens, SHOP)
    made.store.paths = {"secret/shop/keys": OWN}
    made_by = ("create", "secret", "generic", "keys", "--from-literal=theirs=1")
    for namespace in (SHOP, BANK):
        api_server(*made_by, "-n", namespace)
    yield made
    api_server("delete", "embpol", "--all", "-n", SHOP, "--cascade=foreground")
    for namespace in (SHOP, BANK):
        api_server("delete", "secret", "keys", "-n", namespace)


def refused(api_server: kubectl.Kubectl, wanted: dict[str, Any]) -> str | None:
    """What the API server says against a policy; None where it takes it."""
    try:
        api_server.apply(wanted)
    except kubectl.KubectlError as error:
        return error.said
    return None


@pytest.mark.parametrize("target", TARGETS)
def test_no_target_is_secret_of_somebody_else(api_server, tokens, run, target):
    entry = {"name": target, "vault": {"mount": "secret", "path": "shop/keys"}}
    for deletion in ("Retain", "Delete"):
        refusal = refused(api_server, policy(secrets=[{**entry, "deletionPolicy": deletion}]))
        if refusal is not None:
            assert "spec.secrets" in refusal
            continue
        run("search")
        assert run.condition("search", "SecretsSynced")["reason"] == "ForeignObject"
    assert held(tokens, BANK) == {"keys": FOREIGN}
    assert held(tokens, SHOP)["keys"] == FOREIGN
    assert set(held(tokens, SHOP)) <= {"keys", "embedding-search"}


@pytest.mark.parametrize("account", [it for it in ACCOUNTS if it])
def test_no_policy_may_name_account_that_is_no_name(api_server, bank, account):
    with pytest.raises(kubectl.KubectlError, match="serviceAccountName"):
        api_server.apply(policy(vault={"role": "reader", "serviceAccountName": account}))


def test_secret_of_another_namespace_is_no_source_either(api_server, bank):
    for name in ("bank/keys", "../bank/keys", "../../bank/secrets/keys"):
        reference = {"secretKeyRef": {"name": name, "key": "theirs"}}
        provider = {"name": "openai", "type": "OpenAI", "model": "m", "apiKey": reference}
        with pytest.raises(kubectl.KubectlError, match="secretKeyRef"):
            api_server.apply(policy(providers=[provider]))
