"""Every failure of a request to Vault has a reason, and no message holds a value."""

import inspect
import json
import threading
import typing

import pytest
import requests

from embedding_operator import errors, vault
from embedding_operator.vault import connections, failures, sessions
from embedding_operator.vault.failures import Scope

WHERE = "secret/shop/keys"
SENTINEL = "hvs.s3cr3t"
NO_ANSWER = [
    kind
    for kind in vars(requests.exceptions).values()
    if inspect.isclass(kind) and issubclass(kind, requests.exceptions.RequestException)
]


def answer(status: int, *, body: object = None, **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = json.dumps({"errors": [SENTINEL]} if body is None else body).encode()
    made.headers.update(headers)
    return made


def no_answer(kind: type[Exception]) -> failures.VaultReadError:
    error = kind.__new__(kind, SENTINEL)
    Exception.__init__(error, SENTINEL)
    return failures.of_no_answer(error)


FAILURES = {kind.__name__: no_answer(kind) for kind in [*NO_ANSWER, OSError, ValueError]} | {
    str(status): failures.of_answer(answer(status)) for status in range(400, 600)
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_becomes_problem_that_names_path_and_nothing_else(name):
    failure = FAILURES[name]
    for met in (failure, failures.of_login(failure)):
        problem = met.problem(WHERE)
        assert problem.reason.isalnum()
        assert WHERE in problem.message
        assert SENTINEL not in problem.message + str(met) + repr(met)
        assert met.__context__ is None


def test_unexpected_status_is_named():
    assert "413" in failures.of_answer(answer(413)).cause


def test_braces_in_name_are_nothing_but_braces():
    found = failures.VaultReadError("Reason", "no token of {account}")
    assert found.problem("secret/{0}").message == "cannot read secret/{0}: no token of {account}"


def test_only_vaults_own_word_for_nothing_means_that_path_is_gone():
    vaults = failures.of_answer(answer(404, body={"errors": []}))
    assert (vaults.reason, vaults.gone) == ("PathMissing", True)
    others: list[object] = [{}, {"errors": ["no handler for route"]}, [], "text"]
    for other in others:
        found = failures.of_answer(answer(404, body=other))
        assert (found.reason, found.gone) == ("MountMissing", False)


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(429, "7", 7), (429, "", 0), (429, "Wed, 21 Oct 2026 07:28:00 GMT", 0), (503, "7", 0)],
)
def test_rate_limit_says_how_long_vault_wants_not_to_be_asked(status, header, seconds):
    found = failures.of_answer(answer(status, **{"Retry-After": header}))
    assert found.retry_after_seconds == seconds


def test_error_of_http_library_is_not_even_context_of_ours(monkeypatch):
    """It may quote the request, and with it a token."""
    seen = list[str]()
    client = connections.Client(
        address="http://127.0.0.1:9", timeout_seconds=1, observe=seen.append
    )

    def refuse(**_):
        raise requests.exceptions.InvalidHeader(SENTINEL)

    monkeypatch.setattr(client.session, "request", refuse)
    with pytest.raises(failures.VaultReadError) as raised:
        client.get("/v1/secret/data/keys")
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    assert seen == ["VaultUnreachable"]


REACH = {
    "503": Scope.SERVER,
    "501": Scope.SERVER,
    "502": Scope.SERVER,
    "ConnectionError": Scope.SERVER,
    "ConnectTimeout": Scope.SERVER,
    "SSLError": Scope.SERVER,
    "ReadTimeout": Scope.PATH,
    "500": Scope.PATH,
    "429": Scope.PATH,
    "403": Scope.PATH,
}


@pytest.mark.parametrize("name", REACH)
def test_failure_reaches_as_far_as_it_is_true(name):
    kind = getattr(requests.exceptions, name, None)
    failure = no_answer(kind) if kind else failures.of_answer(answer(int(name)))
    assert failure.scope is REACH[name]
    at_login = failures.of_login(failure).scope
    assert at_login is (Scope.SERVER if REACH[name] is Scope.SERVER else Scope.IDENTITY)


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


def test_waiter_for_failed_login_does_not_try_it_again():
    tokens, failed = Away(), []
    held = sessions.Sessions(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        tokens=tokens,
        observe=lambda _: None,
        clock=lambda: 0.0,
    )

    def get() -> None:
        with pytest.raises(failures.VaultReadError):
            held.get(vault.Identity("shop", "embedding-vault", "reader"))
        failed.append(1)

    door = Door(visitors=8)
    identity = vault.Identity("shop", "embedding-vault", "reader")
    held._gates[identity] = sessions.LoginGate(lock=typing.cast("threading.Lock", door))
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
def test_identity_that_cannot_be_had_is_problem(answer, reason, said):
    held = sessions.Sessions(
        settings=vault.Settings(address="http://127.0.0.1:9"),
        tokens=Tokens(answer),
        observe=lambda _: None,
        clock=lambda: 0.0,
    )
    with pytest.raises(failures.VaultReadError) as refused:
        held.get(vault.Identity("shop", "embedding-vault", "reader"))
    assert refused.value.scope is Scope.IDENTITY
    problem = refused.value.problem(WHERE)
    assert problem.reason == reason
    assert said in problem.message
    assert WHERE in problem.message
