"""The stand-in for Vault does what Vault does, as far as the rest of the operator can tell."""

import pytest

from embedding_operator import credentials, errors, guard, vault
from tests.fakes import secret_store
from tests.parts import vault as real

IDENTITY = vault.Identity("shop", "embedding-vault", "reader")


class StandIn:
    """What tests usually have."""

    def __init__(self):
        self._store = secret_store.Store()

    def write(self, path, **values):
        self._store.paths[f"secret/{path}"] = {key: it.encode() for key, it in values.items()}

    def delete(self, path):
        del self._store.paths[f"secret/{path}"]

    def read(self, path):
        return self._store.read(IDENTITY, mount="secret", path=path)


class Real:
    """What is installed."""

    def __init__(self, server):
        self._server = server
        self._seconds = 0.0
        self._store: credentials.SecretStore = vault.Vault(
            settings=vault.Settings(
                address=server.address, method="token", token_file=server.token_file
            ),
            rules=guard.parse([{"namespace": "shop", "mount": "secret", "path": "*"}]),
            tokens=self,
            clock=self._later,
        )

    def service_account_token(self, **_):
        raise AssertionError("token auth needs no ServiceAccount")

    def _later(self):
        """Every look at the clock is a poll interval after the last."""
        self._seconds += 3600
        return self._seconds

    def write(self, path, **values):
        self._server.write(path, **values)

    def delete(self, path):
        self._server.delete_newest(path)

    def read(self, path):
        return self._store.read(IDENTITY, mount="secret", path=path)


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


def test_all_keys_of_a_path_are_read_as_bytes(store):
    store.write("shop/keys", A="1", B="ü")
    assert store.read("shop/keys") == {"A": b"1", "B": "ü".encode()}


def test_a_new_version_takes_the_place_of_the_old(store):
    store.write("shop/keys", A="1", B="1")
    store.read("shop/keys")
    store.write("shop/keys", A="2")
    assert store.read("shop/keys") == {"A": b"2"}


def test_a_path_that_was_never_there_is_a_problem_that_names_it(store):
    found = store.read("shop/nothing")
    assert isinstance(found, errors.Problem)
    assert found.reason == "PathMissing"
    assert "secret/shop/nothing" in found.message


def test_a_path_that_was_deleted_is_a_problem_that_names_it(store):
    store.write("shop/keys", A="1")
    store.delete("shop/keys")
    found = store.read("shop/keys")
    assert isinstance(found, errors.Problem)
    assert found.reason == "PathMissing"
    assert "secret/shop/keys" in found.message
