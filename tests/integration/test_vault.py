"""A real OpenBao: what the adapter reads of it, and what it says when it cannot."""

from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from embedding_operator import cluster, errors, guard, vault
from tests.parts import kubectl
from tests.parts import vault as real

pytestmark = pytest.mark.integration

IDENTITY = vault.Identity("shop", "embedding-vault", "reader")
RULES = guard.parse([{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}])
POLL_SECONDS = 60.0


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class NoTokens:
    def service_account_token(self, **_):
        raise AssertionError("token auth needs no ServiceAccount")


class CountedTokens:
    """Tokens of a real API server."""

    def __init__(self, tokens: vault.Tokens):
        self._tokens = tokens
        self.made = 0

    def service_account_token(self, **wanted):
        self.made += 1
        return self._tokens.service_account_token(**wanted)


class Reader:
    """A Vault adapter under a clock of its own, and the outcomes of what it asked."""

    def __init__(self, settings: vault.Settings, tokens: vault.Tokens):
        self.clock = Clock()
        self.asked: list[str] = []
        self.adapter = vault.Vault(
            settings=settings,
            rules=RULES,
            tokens=tokens,
            observe=self.asked.append,
            clock=self.clock,
        )

    def __call__(self, path: str, identity: vault.Identity = IDENTITY, *, mount: str = "secret"):
        return self.adapter.read(identity, mount=mount, path=path)

    def problem(self, path: str, identity: vault.Identity = IDENTITY) -> errors.Problem:
        found = self(path, identity)
        assert isinstance(found, errors.Problem)
        return found

    def a_poll_later(self) -> "Reader":
        self.clock.seconds += POLL_SECONDS
        return self


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    started = real.Vault(tmp_path_factory.mktemp("vault"))
    started.start()
    try:
        yield started
    finally:
        started.stop()


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
    server.write("shop/kinds", text="käse", number=5, nested={"a": [1]})
    assert by_token(server)("shop/kinds") == {
        "text": "käse".encode(),
        "number": b"5",
        "nested": b'{"a": [1]}',
    }


def test_a_path_that_is_not_there_is_named(server):
    problem = by_token(server).problem("shop/nothing")
    assert problem.reason == "PathMissing"
    assert "secret/shop/nothing" in problem.message


def test_a_mount_that_is_not_there_is_named(server):
    reader = Reader(
        vault.Settings(address=server.address, method="token", token_file=server.token_file),
        NoTokens(),
    )
    reader.adapter = vault.Vault(
        settings=reader.adapter._settings,
        rules=guard.parse([{"namespace": "*", "mount": "other", "path": "*"}]),
        tokens=NoTokens(),
    )
    problem = reader("shop/keys", mount="other")
    assert problem.reason in {"PathMissing", "VaultForbidden"}
    assert "other/shop/keys" in problem.message


def test_a_deleted_version_is_no_older_one(server):
    server.write("shop/old", KEY="one")
    server.write("shop/old", KEY="two")
    server.delete_newest("shop/old")
    problem = by_token(server).problem("shop/old")
    assert problem.reason == "PathMissing"
    assert "secret/shop/old is deleted" in problem.message


def test_a_path_outside_the_guard_is_never_asked_for(server):
    server.write("bank/keys", KEY="theirs")
    reader = by_token(server)
    problem = reader.problem("bank/keys")
    assert problem.reason == "PathNotAllowed"
    assert "secret/bank/keys" in problem.message
    assert reader.asked == []


def test_within_a_poll_interval_vault_is_asked_once_whoever_asks(server):
    server.write("shop/polled", KEY="one")
    reader = by_token(server)
    assert [reader("shop/polled") for _ in range(5)] == [{"KEY": b"one"}] * 5
    assert reader.asked == ["ok"]


def test_a_rotated_value_is_there_after_a_poll_interval(server):
    server.write("shop/rotated", KEY="one")
    reader = by_token(server)
    reader("shop/rotated")
    server.write("shop/rotated", KEY="two")
    assert reader("shop/rotated") == {"KEY": b"one"}
    assert reader.a_poll_later()("shop/rotated") == {"KEY": b"two"}


def test_what_is_read_for_one_identity_is_not_given_to_another(server):
    server.write("shop/whose", KEY="one")
    reader = by_token(server)
    reader("shop/whose")
    other = vault.Identity("shop", "another", "reader")
    assert reader("shop/whose", other) == {"KEY": b"one"}
    assert reader.asked == ["ok", "ok"]


def test_a_sealed_vault_says_so_and_heals_by_itself(own_server):
    own_server.write("shop/keys", KEY="one")
    reader = by_token(own_server)
    own_server.seal()
    problem = reader.problem("shop/keys")
    assert problem.reason == "VaultSealed"
    assert "secret/shop/keys" in problem.message
    own_server.unseal()
    assert reader.a_poll_later()("shop/keys") == {"KEY": b"one"}


def test_an_unreachable_vault_says_so(own_server):
    reader = by_token(own_server)
    own_server.stop()
    problem = reader.problem("shop/keys")
    assert problem.reason == "VaultUnreachable"
    assert "secret/shop/keys" in problem.message


def test_a_failure_is_kept_for_a_moment_so_that_many_policies_do_not_hammer(own_server):
    reader = by_token(own_server)
    own_server.stop()
    problems = {reader.problem("shop/keys").reason for _ in range(5)}
    assert problems == {"VaultUnreachable"}
    assert reader.asked == ["VaultUnreachable"]


def test_a_token_file_may_be_rotated(server, tmp_path):
    server.write("shop/keys", KEY="one")
    token_file = tmp_path / "token"
    token_file.write_text("revoked")
    reader = by_token(server, token_file=token_file)
    assert reader.problem("shop/keys").reason == "VaultForbidden"
    token_file.write_text(server.token_file.read_text() + "\n")
    assert reader.a_poll_later()("shop/keys") == {"KEY": b"one"}


def test_a_missing_token_file_is_a_problem_that_names_the_path(server, tmp_path):
    reader = by_token(server, token_file=tmp_path / "nothing")
    problem = reader.problem("shop/keys")
    assert problem.reason == "TokenRefused"
    assert "secret/shop/keys" in problem.message


def test_something_else_at_the_address_is_a_problem_and_no_crash(server, tmp_path):
    reader = by_token(server, address=f"{server.address}/ui")
    assert reader.problem("shop/keys").reason in {"VaultFailing", "PathMissing"}


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory) -> Iterator[real.Vault]:
    started = real.Vault(tmp_path_factory.mktemp("vault-tls"), tls=True)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def test_tls_is_checked_against_the_ca_that_was_given(encrypted):
    encrypted.write("shop/keys", KEY="one")
    assert by_token(encrypted)("shop/keys") == {"KEY": b"one"}


def test_a_certificate_of_nobody_known_is_not_trusted(encrypted):
    assert by_token(encrypted, ca_file=None).problem("shop/keys").reason == "VaultUnreachable"


# --- Kubernetes auth: the tokens are of a real API server, which reviews them


@pytest.fixture
def tokens(api_server: kubectl.Kubectl) -> CountedTokens:
    client = kubernetes.config.new_client_from_config(str(api_server.kubeconfig))
    return CountedTokens(cluster.Cluster(client))


@pytest.fixture
def identity(api_server: kubectl.Kubectl, namespace: str, server: real.Vault) -> vault.Identity:
    api_server("create", "serviceaccount", "embedding-vault", "-n", namespace)
    server.trust(api_server, namespace=namespace)
    server.write(f"{namespace}/keys", KEY="one")
    return vault.Identity(namespace, "embedding-vault", "reader")


def by_kubernetes(server: real.Vault, tokens: vault.Tokens) -> Reader:
    return Reader(vault.Settings(address=server.address, poll_seconds=POLL_SECONDS), tokens)


@pytest.mark.cluster
def test_a_service_account_of_the_namespace_signs_in_once(server, tokens, identity):
    reader = by_kubernetes(server, tokens)
    server.write(f"{identity.namespace}/more", KEY="two")
    assert reader(f"{identity.namespace}/keys", identity) == {"KEY": b"one"}
    assert reader(f"{identity.namespace}/more", identity) == {"KEY": b"two"}
    assert tokens.made == 1


@pytest.mark.cluster
def test_a_login_is_renewed_at_two_thirds_of_its_lease(server, tokens, identity):
    path = f"{identity.namespace}/keys"
    reader = by_kubernetes(server, tokens)
    reader(path, identity)
    reader.clock.seconds = 2399
    reader(path, identity)
    assert tokens.made == 1
    reader.clock.seconds = 2401 + POLL_SECONDS
    assert reader(path, identity) == {"KEY": b"one"}
    assert tokens.made == 2


@pytest.mark.cluster
def test_a_revoked_login_is_made_once_more(server, tokens, identity):
    path = f"{identity.namespace}/keys"
    reader = by_kubernetes(server, tokens)
    reader(path, identity)
    server.client().sys.revoke_prefix("auth/kubernetes/login")
    assert reader.a_poll_later()(path, identity) == {"KEY": b"one"}
    assert tokens.made == 2


@pytest.mark.cluster
def test_a_service_account_that_is_not_there_is_named(server, tokens, identity):
    nobody = identity._replace(service_account="nobody")
    problem = by_kubernetes(server, tokens).problem(f"{identity.namespace}/keys", nobody)
    assert problem.reason == "ServiceAccountMissing"
    assert f"{identity.namespace}/nobody" in problem.message


@pytest.mark.cluster
def test_a_role_that_vault_does_not_grant_is_refused(server, tokens, identity, api_server):
    api_server("create", "serviceaccount", "another", "-n", identity.namespace)
    another = identity._replace(service_account="another")
    reader = by_kubernetes(server, tokens)
    assert reader.problem(f"{identity.namespace}/keys", another).reason == "VaultForbidden"
    assert reader("other", identity).reason == "PathNotAllowed"


@pytest.mark.cluster
def test_a_policy_without_a_role_is_told_to_name_one(server, tokens, identity):
    problem = by_kubernetes(server, tokens).problem(
        f"{identity.namespace}/keys", identity._replace(role=None)
    )
    assert "spec.vault.role is not set" in problem.message
    assert tokens.made == 0
