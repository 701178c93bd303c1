"""Every failure of the client library has a word, and none is told with a value."""

import inspect

import hvac
import hvac.exceptions
import pytest
import requests

from embedding_operator import errors, guard, vault

WHERE = "secret/shop/keys"
SENTINEL = "hvs.s3cr3t"
FAILURES = [
    kind
    for kind in (*vars(hvac.exceptions).values(), *vars(requests.exceptions).values())
    if inspect.isclass(kind)
    and issubclass(kind, (hvac.exceptions.VaultError, requests.exceptions.RequestException))
]
OWN = {
    kind
    for kind in vars(hvac.exceptions).values()
    if inspect.isclass(kind) and issubclass(kind, hvac.exceptions.VaultError)
}


def raised(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind, SENTINEL)
    Exception.__init__(error, SENTINEL)
    return error


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__name__)
def test_a_failure_becomes_a_problem_that_names_the_path_and_nothing_else(kind):
    problem = vault.problem(raised(kind), WHERE)
    assert problem.reason.isalnum()
    assert WHERE in problem.message
    assert SENTINEL not in problem.message


def test_every_error_that_the_library_has_today_is_thought_of():
    assert set(vault._PROBLEMS) >= OWN


def test_what_is_no_failure_of_vault_is_not_taken_for_one():
    with pytest.raises(ZeroDivisionError):
        vault.problem(ZeroDivisionError(), WHERE)


class Tokens:
    def __init__(self, answer):
        self._answer = answer

    def service_account_token(self, **_):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (None, "ServiceAccountMissing", "shop/embedding-vault"),
        (errors.Denied("may not create serviceaccounts/token"), "TokenRefused", "may not create"),
        (errors.Unavailable("the API server is away"), "TokenRefused", "is away"),
    ],
)
def test_an_identity_that_cannot_be_had_is_a_problem(answer, reason, said):
    adapter = vault.Vault(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        rules=guard.parse([{"namespace": "shop", "mount": "secret", "path": "*"}]),
        tokens=Tokens(answer),
    )
    identity = vault.Identity("shop", "embedding-vault", "reader")
    problem = adapter.read(identity, mount="secret", path="shop/keys")
    assert isinstance(problem, errors.Problem)
    assert problem.reason == reason
    assert said in problem.message
    assert WHERE in problem.message


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": {"key": "value"}}])
def test_a_mount_of_another_kind_is_a_problem_and_no_crash(answer):
    class OtherKind(vault.Vault):
        def _read(self, *_, **__):
            return answer

    adapter = OtherKind(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        rules=guard.parse([{"namespace": "shop", "mount": "secret", "path": "*"}]),
        tokens=Tokens(None),
    )
    identity = vault.Identity("shop", "embedding-vault", "reader")
    problem = adapter.read(identity, mount="secret", path="shop/keys")
    assert isinstance(problem, errors.Problem)
    assert "KV version 2" in problem.message


def test_what_was_read_and_who_signed_in_are_masked():
    client = hvac.Client(url="http://127.0.0.1:9", token=SENTINEL)
    for held in (vault._Known(0.0, {"KEY": SENTINEL.encode()}), vault._Session(client, 0.0)):
        assert SENTINEL not in repr(held)
