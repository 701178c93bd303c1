"""The stand-in for Vault behaves as Vault does, as far as the operator can tell."""

from typing import TYPE_CHECKING

import pytest

from embedding_operator import errors, vault
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.vault import access_rules
from tests.fakes import secret_store
from tests.parts import vault as real

if TYPE_CHECKING:
    from embedding_operator.controller.secret_values import SecretStore

IDENTITY = vault.Identity("shop", "embedding-vault", "reader")
SEARCH = ObjectKey("shop", "search")


def address(path):
    return vault.Address(IDENTITY, "secret", path)


class StandIn:
    """What tests usually have."""

    def __init__(self):
        self.store: SecretStore = secret_store.Store()

    def write(self, path, **values):
        held = {key: it.encode() for key, it in values.items()}
        self._paths[f"secret/{path}"] = held

    def delete(self, path):
        del self._paths[f"secret/{path}"]

    def read(self, path):
        self.store.follow(SEARCH, frozenset({address(path)}))
        return self.store.read(address(path))

    @property
    def _paths(self):
        assert isinstance(self.store, secret_store.Store)
        return self.store.paths


class Real:
    """What is installed, with its threads played here."""

    def __init__(self, server):
        self._server = server
        self.poller = vault.connect(
            settings=vault.Settings(
                address=server.address, method="token", token_file=server.token_file
            ),
            rules=access_rules.parse([{"namespace": "shop", "mount": "secret", "path": "*"}]),
            tokens=self,
            changed=lambda _: None,
        )
        self.store: SecretStore = self.poller

    def service_account_token(self, **_):
        raise AssertionError("token auth needs no ServiceAccount")

    def write(self, path, **values):
        self._server.write(path, **values)

    def delete(self, path):
        self._server.delete_newest(path)

    def read(self, path):
        self.store.follow(SEARCH, frozenset({address(path)}))
        self.poller.poll(address(path))
        return self.store.read(address(path))


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.integration)])
def store(request, tmp_path):
    if request.param == "stand-in":
        yield StandIn()
        return
    server = real.Vault(tmp_path)
    try:
        server.start()
        yield Real(server)
    finally:
        server.stop()


def test_all_keys_of_path_are_read_as_bytes(store):
    store.write("shop/keys", A="1", B="ü")
    found = store.read("shop/keys")
    assert found.values == {"A": b"1", "B": "ü".encode()}
    assert not found.pending
    assert found.problem is None


def test_new_version_takes_place_of_old(store):
    store.write("shop/keys", A="1", B="1")
    store.read("shop/keys")
    store.write("shop/keys", A="2")
    assert store.read("shop/keys").values == {"A": b"2"}


def problem(found: vault.Reading) -> errors.Problem:
    assert found.values is None
    assert found.gone
    assert found.problem is not None
    return found.problem


def test_path_that_was_never_there_is_problem_that_names_it(store):
    found = problem(store.read("shop/nothing"))
    assert found.reason == "PathMissing"
    assert "secret/shop/nothing" in found.message


def test_path_that_was_deleted_is_problem_that_names_it(store):
    store.write("shop/keys", A="1")
    store.read("shop/keys")
    store.delete("shop/keys")
    assert "secret/shop/keys" in problem(store.read("shop/keys")).message


def test_refresh_takes_addresses_that_were_read(store):
    store.write("shop/keys", A="1")
    store.read("shop/keys")
    store.store.refresh([address("shop/keys")])
    assert store.read("shop/keys").values == {"A": b"1"}
