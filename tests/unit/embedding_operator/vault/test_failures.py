"""Every failure of the client library has a word, and none is told with a value."""

import inspect
import threading
import typing

import hvac.exceptions
import pytest
import requests

from embedding_operator import errors, vault
from embedding_operator.vault import failures, sessions
from embedding_operator.vault.failures import Scope

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


def raised(kind: type[Exception], **fields) -> Exception:
    error = kind.__new__(kind, SENTINEL)
    Exception.__init__(error, SENTINEL)
    for name, value in {"errors": None, "json": None, **fields}.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize("meaning", [failures.of_reading, failures.of_login])
@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__name__)
def test_a_failure_becomes_a_problem_that_names_the_path_and_nothing_else(kind, meaning):
    problem = meaning(raised(kind)).problem(WHERE)
    assert problem.reason.isalnum()
    assert WHERE in problem.message
    assert SENTINEL not in problem.message


def test_every_error_that_the_library_has_today_is_thought_of():
    assert set(failures.MEANINGS) >= OWN


def test_what_is_no_failure_of_vault_is_not_taken_for_one():
    with pytest.raises(ZeroDivisionError):
        failures.of_reading(ZeroDivisionError())


def test_braces_in_a_name_are_nothing_but_braces():
    found = failures.Unreadable("Reason", "{where} is read as {account}")
    assert found.problem("secret/{0}").message == "secret/{0} is read as {account}"


def test_only_vaults_own_word_for_nothing_means_that_a_path_is_gone():
    vaults = failures.of_reading(raised(hvac.exceptions.InvalidPath, errors=[]))
    assert (vaults.reason, vaults.gone) == ("PathMissing", True)
    for other in (None, ["no handler for route"]):
        found = failures.of_reading(raised(hvac.exceptions.InvalidPath, errors=other))
        assert (found.reason, found.gone) == ("MountMissing", False)


REACH = {
    hvac.exceptions.VaultDown: Scope.SERVER,
    hvac.exceptions.VaultNotInitialized: Scope.SERVER,
    hvac.exceptions.BadGateway: Scope.SERVER,
    requests.exceptions.ConnectionError: Scope.SERVER,
    requests.exceptions.ConnectTimeout: Scope.SERVER,
    requests.exceptions.SSLError: Scope.SERVER,
    requests.exceptions.ReadTimeout: Scope.PATH,
    hvac.exceptions.InternalServerError: Scope.PATH,
    hvac.exceptions.RateLimitExceeded: Scope.PATH,
    hvac.exceptions.Forbidden: Scope.PATH,
}


@pytest.mark.parametrize("kind", REACH, ids=lambda kind: kind.__name__)
def test_a_failure_reaches_as_far_as_it_is_true(kind):
    assert failures.of_reading(raised(kind)).scope is REACH[kind]
    at_login = failures.of_login(raised(kind)).scope
    assert at_login is (Scope.SERVER if REACH[kind] is Scope.SERVER else Scope.IDENTITY)


class Away:
    """An API server that hangs until it is let go, and then is away."""

    def __init__(self):
        self.asked = 0
        self.let_go = threading.Event()

    def service_account_token(self, **_):
        self.asked += 1
        assert self.let_go.wait(10)
        raise errors.Unavailable("away")


class Door:
    """A lock that notes when everybody has come to it."""

    def __init__(self, *, visitors: int):
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._expected = visitors
        self.all_came = threading.Event()

    def __enter__(self):
        with self._counting:
            self._expected -= 1
        if self._expected == 0:
            self.all_came.set()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_who_waited_for_a_login_that_failed_does_not_try_it_again():
    tokens, failed = Away(), []
    held = sessions.Sessions(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        tokens=tokens,
        observe=lambda _: None,
        clock=lambda: 0.0,
    )

    def get() -> None:
        with pytest.raises(failures.Unreadable):
            held.get(vault.Identity("shop", "embedding-vault", "reader"))
        failed.append(1)

    door = Door(visitors=8)
    identity = vault.Identity("shop", "embedding-vault", "reader")
    held._desks[identity] = sessions._Desk(lock=typing.cast("threading.Lock", door))
    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert door.all_came.wait(10)
    tokens.let_go.set()
    for thread in threads:
        thread.join()
    assert len(failed) == 8
    assert tokens.asked == 1
    get()
    assert tokens.asked == 2, "who comes later tries"


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
        (errors.Denied("may not {create}"), "TokenRefused", "may not {create}"),
        (errors.Unavailable("the API server is away"), "TokenRefused", "is away"),
    ],
)
def test_an_identity_that_cannot_be_had_is_a_problem(answer, reason, said):
    held = sessions.Sessions(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        tokens=Tokens(answer),
        observe=lambda _: None,
        clock=lambda: 0.0,
    )
    with pytest.raises(failures.Unreadable) as refused:
        held.get(vault.Identity("shop", "embedding-vault", "reader"))
    assert refused.value.scope is Scope.IDENTITY
    problem = refused.value.problem(WHERE)
    assert problem.reason == reason
    assert said in problem.message
    assert WHERE in problem.message
