"""What the adapter remembers of Vault; what Vault answers is in tests/integration/test_vault.py."""

import hvac
import hvac.exceptions

from embedding_operator import errors, guard, vault

RULES = guard.parse([{"namespace": "*", "mount": "secret", "path": "*"}])
SETTINGS = vault.Settings(address="http://127.0.0.1:1", poll_seconds=60)


class NoAccounts:
    def __init__(self):
        self.asked = 0

    def service_account_token(self, **_):
        self.asked += 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_nobody_asks_for_any_more_is_forgotten():
    clock = Clock()
    adapter = vault.Vault(settings=SETTINGS, rules=RULES, tokens=NoAccounts(), clock=clock)
    for number in range(100):
        clock.now += 30
        identity = vault.Identity("shop", "embedding-vault", f"role-{number}")
        adapter.read(identity, mount="secret", path=f"path-{number}")
    assert len(adapter._known) < 10
    assert len(adapter._locks) < 20


def test_what_is_asked_for_again_and_again_is_kept():
    clock, tokens = Clock(), NoAccounts()
    adapter = vault.Vault(settings=SETTINGS, rules=RULES, tokens=tokens, clock=clock)
    identity = vault.Identity("shop", "embedding-vault", "reader")
    for _ in range(10):
        clock.now += 1
        adapter.read(identity, mount="secret", path="path")
    assert tokens.asked == 5  # a failure is kept for two seconds


class Forbidding(vault.Vault):
    """A Vault that signs everybody in and lets nobody read."""

    logins = 0

    def _login(self, identity):
        self.logins += 1
        return vault._Session(hvac.Client(), since=self._clock(), renew_at=self._clock() + 2400)

    def _read(self, identity, **_):
        self._session(identity)
        raise hvac.exceptions.Forbidden


def test_forbidden_paths_are_no_reason_to_sign_in_again_and_again():
    clock = Clock()
    adapter = Forbidding(settings=SETTINGS, rules=RULES, tokens=NoAccounts(), clock=clock)
    identity = vault.Identity("shop", "embedding-vault", "reader")
    for _ in range(100):  # as a reconcile does while a key is missing
        clock.now += 3
        for path in ("one", "two", "three"):
            found = adapter.read(identity, mount="secret", path=path)
            assert isinstance(found, errors.Problem)
            assert found.reason == "VaultForbidden"
    assert 2 <= adapter.logins <= 1 + 300 / 60
