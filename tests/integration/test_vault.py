"""A real OpenBao: the values that the adapter reads, and its errors when it cannot."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

from embedding_operator import vault
from embedding_operator.vault import failures, reading, sessions
from tests.parts import fault_proxy, kubectl, shipped_roles
from tests.parts import vault as real

pytestmark = pytest.mark.integration

IDENTITY = vault.Identity("shop", "embedding-vault", "reader")
POLL_SECONDS = 60.0


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class NoTokens:
    def service_account_token(self, **_):
        raise AssertionError("this login needs no ServiceAccount")


class CountedTokens:
    """Tokens of a real API server."""

    def __init__(self, tokens: vault.Tokens):
        self._tokens = tokens
        self.made = 0

    def service_account_token(self, **wanted):
        self.made += 1
        return self._tokens.service_account_token(**wanted)


class Reader:
    """Looks at paths under a clock of its own; `asked` are the outcomes of its requests."""

    def __init__(self, settings: vault.Settings, tokens: vault.Tokens):
        self.clock = Clock()
        self.asked: list[str] = []
        self.sessions = sessions.Sessions(
            settings=settings, tokens=tokens, observe=self.asked.append, clock=self.clock
        )
        self.reader = reading.Reader(sessions=self.sessions)
        self.known: dict[vault.Address, reading.Content] = {}

    def look(
        self, path: str, identity: vault.Identity = IDENTITY, *, mount: str = "secret"
    ) -> reading.Content:
        address = vault.Address(identity, mount, path)
        found = self.reader.read(address, known=self.known.get(address), patience_seconds=1)
        self.known[address] = found
        return found

    def __call__(self, path: str, identity: vault.Identity = IDENTITY, *, mount: str = "secret"):
        return self.look(path, identity, mount=mount).values

    def problem(
        self, path: str, identity: vault.Identity = IDENTITY, *, mount: str = "secret"
    ) -> failures.VaultReadError:
        with pytest.raises(failures.VaultReadError) as raised:
            self.look(path, identity, mount=mount)
        assert f"{mount}/{path}" in raised.value.problem(f"{mount}/{path}").message
        return raised.value

    def requests(self) -> list[str]:
        """What was asked since this was last asked for."""
        asked, self.asked[:] = list(self.asked), []
        return asked

    def a_poll_later(self) -> "Reader":
        self.clock.seconds += POLL_SECONDS
        return self


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    with real.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[real.Vault]:
    """A server that a test may break."""
    started = real.Vault(tmp_path)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def by_token(server: real.Vault, **changed) -> Reader:
    settings = {
        "address": server.address,
        "ca_file": server.ca_file,
        "method": "token",
        "token_file": server.token_file,
        "poll_seconds": POLL_SECONDS,
    }
    return Reader(vault.Settings(**{**settings, **changed}), NoTokens())


def test_text_is_read_as_it_is_and_anything_else_as_json(server):
    server.write(
        "shop/kinds", text="käse", number=5, nested={"a": [1]}, lines="a\nb\n", base64="AA=="
    )
    assert by_token(server)("shop/kinds") == {
        "text": "käse".encode(),
        "number": b"5",
        "nested": b'{"a": [1]}',
        "lines": b"a\nb\n",
        "base64": b"AA==",
    }


def test_path_that_is_not_there_is_gone(server):
    found = by_token(server).problem("shop/nothing")
    assert (found.reason, found.gone) == ("PathMissing", True)


def test_mount_that_is_not_there_is_no_proof_that_anything_is_gone(server):
    found = by_token(server).problem("shop/keys", mount="other")
    assert (found.reason, found.gone) == ("MountMissing", False)


def test_deleted_destroyed_and_missing_version_are_told_apart(server):
    server.write("shop/old", KEY="one")
    server.write("shop/old", KEY="two")
    kept = server.client().secrets.kv.v2
    server.delete_newest("shop/old")
    assert by_token(server).problem("shop/old").reason == "VersionDeleted"
    kept.destroy_secret_versions("shop/old", versions=[2], mount_point="secret")
    assert by_token(server).problem("shop/old").reason == "VersionDestroyed"
    kept.delete_metadata_and_all_versions("shop/old", mount_point="secret")
    assert by_token(server).problem("shop/old").reason == "PathMissing"


def test_version_that_was_deleted_while_it_was_known_is_seen(server):
    server.write("shop/known", KEY="one")
    reader = by_token(server)
    reader("shop/known")
    server.delete_newest("shop/known")
    assert reader.problem("shop/known").reason == "VersionDeleted"
    kept = server.client().secrets.kv.v2
    kept.undelete_secret_versions("shop/known", versions=[1], mount_point="secret")
    assert reader("shop/known") == {"KEY": b"one"}


def test_values_are_read_only_where_version_changed(server):
    server.write("shop/polled", KEY="one")
    reader = by_token(server)
    first = reader.look("shop/polled")
    assert (first.version, first.whole) == (1, None)
    assert first.changed_at is not None
    assert reader.requests() == ["ok", "ok"], "the kind of engine, and the values"
    for _ in range(3):
        assert reader.look("shop/polled") is first
    assert reader.requests() == ["ok"] * 3
    server.write("shop/polled", KEY="two")
    second = reader.look("shop/polled")
    assert (second.version, second.values) == (2, {"KEY": b"two"})
    assert reader.requests() == ["ok"] * 2


def test_path_written_anew_at_same_version_is_new(server):
    server.write("shop/again", KEY="one")
    reader = by_token(server)
    reader("shop/again")
    kept = server.client().secrets.kv.v2
    kept.delete_metadata_and_all_versions("shop/again", mount_point="secret")
    server.write("shop/again", KEY="two")
    assert reader("shop/again") == {"KEY": b"two"}


def test_sealed_vault_says_so_and_heals_by_itself(own_server):
    own_server.write("shop/keys", KEY="one")
    reader = by_token(own_server)
    own_server.seal()
    found = reader.problem("shop/keys")
    assert (found.reason, found.scope) == ("VaultSealed", failures.Scope.SERVER)
    own_server.unseal()
    assert reader("shop/keys") == {"KEY": b"one"}


def test_unreachable_vault_says_so(own_server):
    reader = by_token(own_server)
    own_server.stop()
    found = reader.problem("shop/keys")
    assert (found.reason, found.scope) == ("VaultUnreachable", failures.Scope.SERVER)


def test_token_file_may_be_rotated(server, tmp_path):
    server.write("shop/keys", KEY="one")
    token_file = tmp_path / "token"
    token_file.write_text("revoked")
    reader = by_token(server, token_file=token_file)
    assert reader.problem("shop/keys").reason == "VaultForbidden"
    token_file.write_text(server.token_file.read_text() + "\n")
    assert reader.a_poll_later()("shop/keys") == {"KEY": b"one"}


def test_token_file_that_is_as_it_was_is_no_new_login(server, tmp_path):
    reader = by_token(server)
    first = reader.sessions.get(IDENTITY)
    assert reader.a_poll_later().sessions.get(IDENTITY).serial == first.serial


def test_missing_token_file_is_problem_that_names_path(server, tmp_path):
    assert by_token(server, token_file=tmp_path / "nothing").problem("shop/keys").reason == (
        "TokenRefused"
    )


def test_something_else_at_address_is_problem_and_no_crash(server, tmp_path):
    reader = by_token(server, address=f"{server.address}/ui")
    found = reader.problem("shop/keys")
    assert found.reason in {"VaultFailing", "MountMissing"}
    assert not found.gone


# --- what a token may do


def limited(server: real.Vault, tmp_path: Path, *rules: str, **changed) -> Reader:
    """A reader whose token has these rules and no others."""
    client = server.client()
    client.sys.create_or_update_policy("limited", "\n".join(rules))
    token = client.auth.token.create(policies=["limited"], no_default_policy=True)
    token_file = tmp_path / "limited"
    token_file.write_text(token["auth"]["client_token"])
    return by_token(server, token_file=token_file, **changed)


DATA = 'path "secret/data/shop/*" { capabilities = ["read"] }'


def test_token_from_file_is_not_ours_to_revoke(server, tmp_path):
    server.write("bank/keys", KEY="one")
    reader = limited(server, tmp_path, DATA)
    before = (tmp_path / "limited").read_text()
    assert reader.problem("bank/keys").reason == "VaultForbidden"
    (tmp_path / "limited").write_text(server.token_file.read_text())
    reader.clock.seconds += 2
    assert reader("bank/keys") == {"KEY": b"one"}
    assert server.client().auth.token.lookup(before)["data"]["policies"] == ["limited"]


def test_values_are_read_where_metadata_is_forbidden_and_that_is_told(server, tmp_path):
    server.write("shop/whole", KEY="one")
    reader = limited(server, tmp_path, DATA)
    reader("shop/whole")
    reader.requests()
    assert reader.look("shop/whole").whole == "metadata is forbidden"
    assert reader.requests() == ["VaultForbidden", "ok"]
    reader.look("shop/whole")
    assert reader.requests() == ["ok"], "the same login does not ask for it again"
    server.write("shop/whole", KEY="two")
    assert reader("shop/whole") == {"KEY": b"two"}


def test_path_that_is_forbidden_says_so(server, tmp_path):
    server.write("bank/keys", KEY="theirs")
    found = limited(server, tmp_path, DATA).problem("bank/keys")
    assert (found.reason, found.final) == ("VaultForbidden", True)


@pytest.fixture(scope="module")
def first_version(server):
    server.client().sys.enable_secrets_engine("kv", path="team/kv", options={"version": "1"})
    return server


def write_first(server, path, **values):
    server.client().secrets.kv.v1.create_or_update_secret(path, values, mount_point="team/kv")


def test_first_version_of_engine_is_read_and_it_says_so(first_version):
    write_first(first_version, "shop/keys", KEY="one")
    reader = by_token(first_version)
    first = reader.look("shop/keys", mount="team/kv")
    assert (first.values, first.version) == ({"KEY": b"one"}, None)
    assert first.whole == "KV version 1"
    assert first.changed_at is None
    reader.requests()
    assert reader.look("shop/keys", mount="team/kv") is first
    assert reader.requests() == ["ok"]
    write_first(first_version, "shop/keys", KEY="two")
    second = reader.look("shop/keys", mount="team/kv")
    assert second.values == {"KEY": b"two"}
    assert second.changed_at is not None


def test_first_version_needs_no_more_rights_than_to_read(first_version, tmp_path):
    write_first(first_version, "shop/keys", KEY="one")
    rule = 'path "team/kv/shop/*" { capabilities = ["read"] }'
    reader = limited(first_version, tmp_path, rule)
    assert reader("shop/keys", mount="team/kv") == {"KEY": b"one"}
    assert reader.problem("bank/keys", mount="team/kv").reason == "VaultForbidden"


def test_path_of_first_version_that_is_not_there_is_gone(first_version):
    found = by_token(first_version).problem("shop/nothing", mount="team/kv")
    assert (found.reason, found.gone) == ("PathMissing", True)


def test_mount_that_becomes_second_version_is_noticed(server):
    server.client().sys.enable_secrets_engine("kv", path="grows", options={"version": "1"})
    server.client().secrets.kv.v1.create_or_update_secret(
        "shop/keys", {"KEY": "one"}, mount_point="grows"
    )
    reader = by_token(server)
    assert reader("shop/keys", mount="grows") == {"KEY": b"one"}
    server.client().sys.disable_secrets_engine("grows")
    real.mount_second_version(server.client(), "grows")
    kept = server.client().secrets.kv.v2
    reader.problem("shop/keys", mount="grows")
    kept.create_or_update_secret("shop/keys", {"KEY": "two"}, mount_point="grows")
    assert reader.look("shop/keys", mount="grows").version == 1


def test_mount_of_untold_kind_is_read_as_version_2(server):
    server.write("shop/keys", KEY="one")
    proxy = fault_proxy.Proxy(int(server.address.rpartition(":")[2]))
    proxy.fault = lambda _, path: 403 if "/internal/ui/" in path else None
    try:
        reader = by_token(server, address=proxy.address)
        assert reader("shop/keys") == {"KEY": b"one"}
        assert reader.requests() == ["VaultForbidden", "ok"]
        assert reader("shop/keys") == {"KEY": b"one"}
        assert reader.requests() == ["ok"]
    finally:
        proxy.down()


def test_engine_of_another_kind_is_never_read(server):
    server.client().sys.enable_secrets_engine("transit", path="keys")
    assert by_token(server).problem("shop/keys", mount="keys").reason == "MountUnsupported"


# --- AppRole, namespaces


def by_approle(server: real.Vault, folder: Path, *, ttl: str = "1h", **changed) -> Reader:
    client = server.client()
    if "approle/" not in client.sys.list_auth_methods():
        client.sys.enable_auth_method("approle")
    rules = f'{DATA}\npath "secret/metadata/shop/*" {{ capabilities = ["read"] }}'
    client.sys.create_or_update_policy("operator", rules)
    roles, name = client.auth.approle, folder.name
    roles.create_or_update_approle(name, token_policies=["operator"], token_ttl=ttl, **changed)
    role_id, secret_id = folder / "role-id", folder / "secret-id"
    role_id.write_text(roles.read_role_id(name)["data"]["role_id"])
    secret_id.write_text(roles.generate_secret_id(name)["data"]["secret_id"] + "\n")
    settings = vault.Settings(
        address=server.address,
        method="approle",
        auth_mount="approle",
        role_id_file=role_id,
        secret_id_file=secret_id,
        poll_seconds=POLL_SECONDS,
    )
    return Reader(settings, NoTokens())


def test_approle_signs_in_once_for_all_identities(server, tmp_path):
    server.write("shop/keys", KEY="one")
    reader = by_approle(server, tmp_path)
    assert reader("shop/keys") == {"KEY": b"one"}
    assert reader("shop/keys", IDENTITY._replace(role="other")) == {"KEY": b"one"}
    assert reader.requests() == ["ok"] * 4


def test_secret_id_that_is_no_good_is_refused_login(server, tmp_path):
    reader = by_approle(server, tmp_path)
    (tmp_path / "secret-id").write_text("nonsense")
    found = reader.problem("shop/keys")
    assert (found.reason, found.scope) == ("LoginRefused", failures.Scope.IDENTITY)


def test_login_that_can_be_renewed_is_renewed_and_keeps_its_token(server, tmp_path):
    reader = by_approle(server, tmp_path)
    first = reader.sessions.get(IDENTITY)
    reader.clock.seconds = 2399
    assert reader.sessions.get(IDENTITY) is first
    reader.clock.seconds = 2401
    renewed = reader.sessions.get(IDENTITY)
    assert renewed.serial == first.serial
    assert renewed.vault.token == first.vault.token
    assert renewed.renew_at == 2401 + 2400
    assert reader.requests() == ["ok", "ok"]


def test_token_near_its_last_end_is_made_anew(server, tmp_path):
    reader = by_approle(server, tmp_path, ttl="90s", token_max_ttl="90s")
    first = reader.sessions.get(IDENTITY)
    # So little would be added that a renewal is not worth it.
    grown = dataclasses.replace(first, lease_seconds=1000.0, renew_at=0.0)
    reader.sessions._sessions[sessions._OPERATOR] = grown
    assert reader.sessions.get(IDENTITY).serial != first.serial


def test_token_that_cannot_be_renewed_is_made_anew(server, tmp_path):
    reader = by_approle(server, tmp_path, token_type="batch")
    first = reader.sessions.get(IDENTITY)
    assert not first.renewable
    reader.clock.seconds = 2401
    assert reader.sessions.get(IDENTITY).serial != first.serial


def test_login_is_used_until_its_end_while_vault_is_away(own_server, tmp_path):
    reader = by_approle(own_server, tmp_path)
    first = reader.sessions.get(IDENTITY)
    own_server.stop()
    reader.clock.seconds = 2401
    assert reader.sessions.get(IDENTITY).serial == first.serial
    reader.clock.seconds = 3601
    with pytest.raises(failures.VaultReadError):
        reader.sessions.get(IDENTITY)


def test_namespace_of_vault_is_another_vault(server, tmp_path):
    client = server.client()
    client.adapter.post("/v1/sys/namespaces/tenant")
    inside = hvac.Client(server.address, token=client.token, namespace="tenant")
    real.mount_second_version(inside, "secret")
    inside.secrets.kv.v2.create_or_update_secret("shop/keys", {"KEY": "team"}, mount_point="secret")
    server.write("shop/keys", KEY="root")
    assert by_token(server, vault_namespace="tenant")("shop/keys") == {"KEY": b"team"}
    assert by_token(server)("shop/keys") == {"KEY": b"root"}


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory) -> Iterator[real.Vault]:
    started = real.Vault(tmp_path_factory.mktemp("vault-tls"), tls=True)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def test_tls_is_checked_against_ca_that_was_given(encrypted):
    encrypted.write("shop/keys", KEY="one")
    assert by_token(encrypted)("shop/keys") == {"KEY": b"one"}


def test_certificate_of_nobody_known_is_not_trusted(encrypted):
    assert by_token(encrypted, ca_file=None).problem("shop/keys").reason == "VaultUnreachable"


# --- Kubernetes auth: the tokens are of a real API server, which reviews them


@pytest.fixture
def tokens(api_server: kubectl.Kubectl) -> CountedTokens:
    return CountedTokens(shipped_roles.connect(api_server.kubeconfig))


@pytest.fixture
def identity(api_server: kubectl.Kubectl, namespace: str, server: real.Vault) -> vault.Identity:
    api_server("create", "serviceaccount", "embedding-vault", "-n", namespace)
    server.trust(api_server, namespace=namespace)
    server.write(f"{namespace}/keys", KEY="one")
    return vault.Identity(namespace, "embedding-vault", "reader")


def by_kubernetes(server: real.Vault, tokens: vault.Tokens) -> Reader:
    return Reader(vault.Settings(address=server.address, poll_seconds=POLL_SECONDS), tokens)


@pytest.mark.cluster
def test_service_account_of_namespace_signs_in_once(server, tokens, identity):
    reader = by_kubernetes(server, tokens)
    server.write(f"{identity.namespace}/more", KEY="two")
    assert reader(f"{identity.namespace}/keys", identity) == {"KEY": b"one"}
    assert reader(f"{identity.namespace}/more", identity) == {"KEY": b"two"}
    assert tokens.made == 1


@pytest.mark.cluster
def test_login_is_renewed_at_two_thirds_of_its_lease(server, tokens, identity):
    path = f"{identity.namespace}/keys"
    reader = by_kubernetes(server, tokens)
    reader(path, identity)
    reader.clock.seconds = 2399
    reader(path, identity)
    assert tokens.made == 1
    reader.clock.seconds = 2401 + POLL_SECONDS
    assert reader(path, identity) == {"KEY": b"one"}
    assert tokens.made == 1


@pytest.mark.cluster
def test_revoked_login_is_made_once_more(server, tokens, identity):
    path = f"{identity.namespace}/keys"
    reader = by_kubernetes(server, tokens)
    reader(path, identity)
    server.client().sys.revoke_prefix("auth/kubernetes/login")
    server.write(path, KEY="two")
    assert reader.a_poll_later()(path, identity) == {"KEY": b"two"}
    assert tokens.made == 2


@pytest.mark.cluster
def test_service_account_that_is_not_there_is_named(server, tokens, identity):
    nobody = identity._replace(service_account="nobody")
    found = by_kubernetes(server, tokens).problem(f"{identity.namespace}/keys", nobody)
    assert found.reason == "ServiceAccountMissing"
    assert f"{identity.namespace}/nobody" in found.cause


@pytest.mark.cluster
def test_role_that_vault_does_not_grant_is_refused(server, tokens, identity, api_server):
    api_server("create", "serviceaccount", "another", "-n", identity.namespace)
    another = identity._replace(service_account="another")
    reader = by_kubernetes(server, tokens)
    assert reader.problem(f"{identity.namespace}/keys", another).reason == "LoginRefused"
    assert reader.problem("other/keys", identity).reason == "VaultForbidden"


@pytest.mark.cluster
def test_policy_without_role_is_told_to_name_one(server, tokens, identity):
    found = by_kubernetes(server, tokens).problem(
        f"{identity.namespace}/keys", identity._replace(role=None)
    )
    assert found.reason == "RoleMissing"
    assert "spec.vault.role is not set" in found.cause
    assert tokens.made == 0


@pytest.mark.cluster
def test_forbidden_path_signs_in_once_per_step_and_leaves_one_login_behind(
    server, tokens, identity
):
    reader = by_kubernetes(server, tokens)
    for _ in range(3):
        reader.problem("bank/keys", identity)
    assert tokens.made == 1
    accessors = "/v1/auth/token/accessors"
    before = len(server.client().adapter.list(accessors)["data"]["keys"])
    reader.clock.seconds += 2
    reader.problem("bank/keys", identity)
    assert tokens.made == 2
    assert len(server.client().adapter.list(accessors)["data"]["keys"]) == before


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)]
)
def test_retry_after_of_busy_vault_is_read(server, header, seconds):
    proxy = fault_proxy.Proxy(int(server.address.rpartition(":")[2]))
    proxy.fault, proxy.retry_after = lambda *_: 429, header
    try:
        with pytest.raises(failures.VaultReadError) as refusal:
            by_token(server, address=proxy.address).look("shop/keys")
    finally:
        proxy.down()
    assert (refusal.value.reason, refusal.value.retry_after_seconds) == ("VaultBusy", seconds)
