"""Access to the management pages. D9 of the field's cases: the token need not travel."""

import asyncio
import functools
import hmac
import itertools
from typing import Any

import pytest

from embedding_contract import guard, names, proof
from embedding_sidecar import errors
from embedding_sidecar.api.app import Application
from embedding_sidecar.policy import settings
from embedding_sidecar.telemetry.metrics import Metrics

TOKEN = "the-api-token"
POD = "0b5c1c6e-57a1-4b8e-9d0b-7a0f6a2c2f11"
NOW = 1_800_000_000
_nonces = itertools.count()


class Current:
    """Nothing in force but a token."""

    rejected = None

    def __init__(self, token: str = TOKEN) -> None:
        self._token = token

    def api_token(self):
        return self._token

    def runtime_or_none(self):
        return None

    def runtime(self):
        raise errors.Unavailable("There is no policy yet.", code="policy_not_loaded")


def asked(application: Any, authorization: str, *, method="GET", path=names.PATH_CONFIG, query=b""):
    """What an ASGI application answers: status, headers and body."""
    said = []

    async def send(message):
        said.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"authorization", authorization.encode("latin-1"))],
    }
    asyncio.run(application(scope, None, send))
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


def admin(*, token: str = TOKEN, pod: str = POD):
    current: Any = Current(token)
    made = Application(
        current=current,
        metrics=Metrics(),
        callers=settings.Callers(pod_uid=pod),
    )
    return made.admin()


def signed(token: str = TOKEN, **said: Any) -> str:
    usual = {
        "method": "GET",
        "path": names.PATH_CONFIG,
        "nonce": f"{next(_nonces):032x}",
        "time": NOW,
        "pod": POD,
    }
    return proof.sign_request(token, **{**usual, **said}).render()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The time of the pod."""
    now = [float(NOW)]
    monkeypatch.setattr(guard, "Guard", functools.partial(guard.Guard, clock=lambda: now[0]))
    return now


@pytest.mark.parametrize("token", ["", "t", TOKEN[:-1], TOKEN + "x", "ä"])
def test_wrong_token_takes_as_long_as_any_other(monkeypatch, token):
    compared = []
    real = hmac.compare_digest

    def compare(given, expected):
        compared.append((given, expected))
        return real(given, expected)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert asked(admin(), f"Bearer {token}")[0] == 401
    assert [expected for _, expected in compared] == [TOKEN.encode()]


def test_bearer_is_still_accepted_of_peoples_tools():
    for pod in (POD, ""):
        status, headers, _ = asked(admin(pod=pod), f"Bearer {TOKEN}")
        assert status == 503  # let in: there is no policy yet
        assert proof.ANSWER_HEADER.encode() not in headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_proof_is_let_in_and_its_answer_is_signed_errors_too(method):
    """D9."""
    status, headers, body = asked(
        admin(),
        signed(nonce="a" * 32, method=method, path=f"{names.PATH_CONFIG}?a=%20b"),
        method=method,
        query=b"a=%20b",
    )
    assert status == 503
    given = headers[proof.ANSWER_HEADER.encode()].decode()
    heard = b"" if method == "HEAD" else body
    assert proof.is_answer_signed(TOKEN, given, nonce="a" * 32, status=503, body=heard)
    assert not proof.is_answer_signed(TOKEN, given, nonce="b" * 32, status=503, body=heard)


@pytest.mark.parametrize(
    ("authorization", "word"),
    [
        ("", "Bearer"),
        ("Basic dTpw", "Bearer"),
        ("Bearer", "is not the API token"),
        ("Bearer other", "is not the API token"),
        (proof.SCHEME, "form"),
        (f"{proof.SCHEME} nonce=1", "form"),
        (lambda: signed("other"), "not signed"),
        (lambda: signed(path="/other"), "not signed"),
        (lambda: signed(path=f"{names.PATH_CONFIG}?a=b"), "not signed"),
        (lambda: signed(method="DELETE"), "not signed"),
        (lambda: signed().replace(f"time={NOW}", f"time={NOW + 1}"), "not signed"),
        (lambda: signed(pod="another-pod"), "another pod"),
    ],
    ids=[
        "nothing",
        "Basic",
        "no-token",
        "another-token",
        "only-the-scheme",
        "no-time",
        "signed-by-another-token",
        "of-another-path",
        "of-another-query",
        "of-another-method",
        "of-another-time",
        "of-another-pod",
    ],
)
def test_refused_credentials_get_unsigned_reason(authorization, word):
    """D9, siblings: a proof for another pod, page or method is of no use here."""
    given = authorization if isinstance(authorization, str) else authorization()
    status, headers, body = asked(admin(), given)
    assert status == 401
    assert word in body.decode()
    assert b"invalid_api_key" in body
    assert TOKEN not in body.decode()
    assert headers[b"www-authenticate"] == f"Bearer, {proof.SCHEME}".encode()
    assert proof.ANSWER_HEADER.encode() not in headers


@pytest.mark.parametrize("seconds", [-301, 301, -(10**6), 10**9])
def test_time_of_proof_that_is_too_far_away_is_told_and_signed(seconds):
    status, headers, body = asked(admin(), signed(nonce="c" * 32, time=NOW + seconds))
    assert (status, b"this pod's clock" in body) == (401, True)
    given = headers[proof.ANSWER_HEADER.encode()].decode()
    assert proof.is_answer_signed(TOKEN, given, nonce="c" * 32, status=401, body=body)
    assert asked(admin(), signed(time=NOW - 300))[0] == 503


def test_proof_that_is_sent_again_is_refused():
    """D9, sibling: who has seen a request cannot ask again."""
    application, once = admin(), signed()
    assert [asked(application, once)[0] for _ in range(3)] == [503, 401, 401]
    assert asked(application, signed())[0] == 503


def test_sidecar_without_uid_of_its_pod_accepts_no_proof_and_says_so():
    status, _, body = asked(admin(pod=""), signed())
    assert status == 401
    assert names.ENV_POD_UID in body.decode()


def test_sidecar_without_token_lets_nobody_in():
    for given in ("Bearer ", signed(""), "Bearer"):
        assert asked(admin(token=""), given)[0] == 401


def admit(keeper: guard.Guard, authorization: str) -> guard.Admission:
    return keeper.admit(authorization, token=TOKEN, method="GET", path=names.PATH_CONFIG)


def test_remembered_proofs_are_bounded_and_forgotten_once_useless(clock):
    keeper = guard.Guard(pod=POD, max_nonces=3, clock=lambda: clock[0])
    first = signed()
    said = [admit(keeper, it).refusal for it in (first, signed(), signed(), signed())]
    assert [bool(it) for it in said] == [False, False, False, True]
    clock[0] += proof.MAX_SKEW_SECONDS + 1
    assert not admit(keeper, signed(time=int(clock[0]))).refusal
    assert len(keeper._nonces) == 1
    # A clock that is put back does not let the forgotten ones in again.
    clock[0] = NOW
    assert "used before" in admit(keeper, first).refusal
