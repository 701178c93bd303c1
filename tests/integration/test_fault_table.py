"""The fault table: the effect of each fault of a provider or of Redis, one row each.

A row says what the caller gets, which metric moves and how many calls the provider sees; each is
shown for a text alone and in the middle of a batch, of which the rest must be kept. One real
sidecar serves all rows; each row has a policy of another name, so that nothing is known of its
provider (what is known outlives an edit of one policy).
"""

import base64
import dataclasses
import itertools
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_client

from embedding_contract import document, fingerprint, names
from tests.fakes import provider, vendors
from tests.parts import faults, sidecar

pytestmark = pytest.mark.integration

ATTEMPT_SECONDS = 1.2
"""Several times what a part of a batch takes on a busy machine."""
REQUEST_SECONDS = 9
KEY_FILE = "provider-p"
URL_FILE = "redis-url"
BATCH = [f"{number}" for number in range(2048)]
"""Voyage takes a thousand at once: three parts, and the second one holds the fault."""
MARKED = "1500"
PARTS = 3
KEPT = 1048
LAST_TRY = 250
"""Texts of the last try's part with the fault: each time-out halves what is asked for at once."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A provider's fault: the caller's status and code, the outcome and the number of calls.

    `is_halved`: a batch comes again in parts, of which those without the fault are kept (B3).
    """

    fault: faults.Fault
    status: int
    code: str
    outcome: str
    calls: int
    kind: str = "unreachable"
    retry_after: bool = False
    is_halved: bool = False


def limited(**headers):
    return provider.status(429, {name.replace("_", "-"): value for name, value in headers.items()})


def coded(code):
    return lambda _: (429, {}, {"error": {"message": "no", "type": code, "code": code}})


def first(change: Callable[[dict], object]):
    """A fault: the right answer, its first vector changed."""
    return provider.changed(lambda body: change(body["data"][0]))


def failed(fault: faults.Fault, outcome: str) -> Row:
    """Tried three times, in vain."""
    return Row(fault=fault, status=502, code="all_providers_failed", outcome=outcome, calls=3)


def late(fault: faults.Fault) -> Row:
    """Tried three times, and each time with half as many texts at once."""
    return dataclasses.replace(failed(fault, "timeout"), is_halved=True)


def nonsense(fault: faults.Fault) -> Row:
    """Paid for, and not tried again."""
    return dataclasses.replace(failed(fault, "bad_answer"), calls=1, kind="unusable")


def used_up(fault: faults.Fault, *, calls: int, retry_after: bool) -> Row:
    return Row(
        fault=fault,
        status=429,
        code="rate_limit_exceeded",
        outcome="rate_limited",
        calls=calls,
        kind="exhausted",
        retry_after=retry_after,
    )


SIX_MINUTES = limited(x_ratelimit_reset_tokens="6m0s", x_ratelimit_remaining_tokens="0")
NOT_NUMBERS = [math.nan] * provider.DIMENSIONS
ROWS = {
    "429": used_up(limited(), calls=3, retry_after=False),
    "429 with a short Retry-After": used_up(
        limited(retry_after_ms="100"), calls=3, retry_after=True
    ),
    "429 with a long Retry-After": used_up(limited(retry_after="50"), calls=1, retry_after=True),
    "429 with a long reset": used_up(SIX_MINUTES, calls=1, retry_after=True),
    "402": Row(
        fault=provider.status(402),
        status=429,
        code="provider_credit_exhausted",
        outcome="no_credit",
        calls=1,
        kind="spent",
    ),
    "500": failed(provider.status(500), "server_error"),
    "503": failed(provider.status(503), "server_error"),
    "time-out": late(faults.SLOW),
    "reset": failed(faults.RESET, "connection_lost"),
    "slow body": late(faults.SLOW_BODY),
    "truncated body": failed(faults.TRUNCATED, "connection_lost"),
    "garbage": nonsense(provider.raw(b"<html>")),
    "a vector too few": nonsense(provider.changed(lambda body: body["data"].pop())),
    "a wrong index": nonsense(first(lambda it: it.update(index=99_999))),
    "a wrong dimension": dataclasses.replace(
        nonsense(first(lambda it: it.update(embedding=[1.0]))),
        outcome="wrong_size",
        kind="wrongsize",
    ),
    "not a number": nonsense(first(lambda it: it.update(embedding=NOT_NUMBERS))),
    "a dead key": Row(
        fault=provider.status(401),
        status=502,
        code="all_providers_failed",
        outcome="key_refused",
        calls=1,
        kind="misconfigured",
    ),
}

WITHOUT_INDEX = frozenset({"Gemini", "Cohere", "Bedrock"})


def native(status: int, body: dict, **headers: str):
    """A fault in the vendor's own form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (status, named, vendors.Native(body))


def spent(fault: faults.Fault) -> Row:
    return dataclasses.replace(ROWS["402"], fault=fault)


def misconfigured(fault: faults.Fault, outcome: str) -> Row:
    return dataclasses.replace(ROWS["a dead key"], fault=fault, outcome=outcome)


def google(status: int, word: str, *details: dict):
    error = {"code": status, "message": "no", "status": word, "details": list(details)}
    return native(status, {"error": error})


def amazon(status: int, kind: str):
    return native(status, {"message": "no"}, x_amzn_errortype=kind)


IN_A_WHILE = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "50s"}
TRIAL = "You are using a Trial key, which is limited to 1000 API calls / month."
OWN_ROWS = {
    ("Gemini", "RetryInfo"): used_up(
        google(429, "RESOURCE_EXHAUSTED", IN_A_WHILE), calls=1, retry_after=True
    ),
    ("Gemini", "billing"): misconfigured(google(400, "FAILED_PRECONDITION"), "key_refused"),
    ("Gemini", "model"): misconfigured(google(404, "NOT_FOUND"), "not_found"),
    ("Cohere", "a month"): spent(native(429, {"message": TRIAL})),
    ("Cohere", "model"): misconfigured(native(404, {"message": "not found"}), "not_found"),
    ("Cohere", "cancelled"): failed(native(499, {"message": "no"}), "server_error"),
    ("Mistral", "model"): misconfigured(
        native(400, {"message": "no", "type": "invalid_model", "code": "1500"}), "not_found"
    ),
    ("Mistral", "rate"): used_up(
        native(429, {"message": "no", "type": "rate_limited", "code": "1300"}),
        calls=3,
        retry_after=False,
    ),
    ("Jina", "balance"): spent(native(403, {"code": "AUTHZ_INSUFFICIENT_BALANCE"})),
    ("Jina", "model"): misconfigured(native(400, {"code": "INPUT_MODEL_NOT_FOUND"}), "not_found"),
    ("Bedrock", "throttled"): used_up(
        amazon(429, "ThrottlingException"), calls=3, retry_after=False
    ),
    ("Bedrock", "quota"): used_up(
        amazon(400, "ServiceQuotaExceededException"), calls=3, retry_after=False
    ),
    ("Bedrock", "not ready"): failed(amazon(429, "ModelNotReadyException"), "server_error"),
    ("Bedrock", "of the model"): failed(amazon(424, "ModelErrorException"), "server_error"),
    ("Bedrock", "rights"): misconfigured(amazon(403, "AccessDeniedException"), "key_refused"),
    ("Bedrock", "model"): misconfigured(amazon(404, "ResourceNotFoundException"), "not_found"),
}


class Table:
    """A sidecar whose policy is written anew for each row, before its provider."""

    def __init__(self, folder: Path) -> None:
        self.faulty = faults.Provider()
        self._document = folder / "policy.json"
        self._secrets = folder / "secrets"
        self._secrets.mkdir()
        self.write_key(provider.KEY)
        (self._secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN)
        self._numbers = itertools.count(1)
        self.url = ""
        self.running = sidecar.Sidecar(
            *("--document", self._document, "--secrets", self._secrets),
            environment={
                "EMBEDDING_ATTEMPT_SECONDS": str(ATTEMPT_SECONDS),
                "EMBEDDING_REQUEST_SECONDS": str(REQUEST_SECONDS),
            },
            log=folder / "sidecar.log",
        )

    def policy(self, kind: str, *, redis_url: str | None = None, url: str | None = None) -> None:
        """Put a new policy in force, of a name that nobody had before."""
        if redis_url is not None:
            (self._secrets / URL_FILE).write_text(redis_url)
        path = provider.PATHS[kind]
        name = f"row-{next(self._numbers)}"
        self._obey(
            document.PolicyDocument(
                namespace="table",
                name=name,
                providers=(
                    document.Provider(
                        name="p",
                        kind=kind,
                        model=provider.model(kind),
                        base_url=f"{url or self.url}/{path}",
                        dimensions=provider.DIMENSIONS,
                        api_key_file=KEY_FILE,
                        **provider.terms(kind),
                    ),
                ),
                cache=document.Cache(
                    memory_max_bytes=10**8 if redis_url is None else 0,
                    redis_url_file=None if redis_url is None else URL_FILE,
                    shared=name,
                ),
                quota=document.Quota(daily_requests=None),
            )
        )
        self.faulty.calls.clear()

    def write_key(self, key: str) -> None:
        """Rotate the provider's key."""
        new = self._secrets / "..new"
        new.write_text(key)
        new.replace(self._secrets / KEY_FILE)

    def heal(self) -> None:
        """The provider is well, and nothing is known against it: another policy, the same cache."""
        self.faulty.fault, self.faulty.before = None, lambda: None
        self._obey(dataclasses.replace(self._policy, name=f"{self._policy.name}-healed"))

    def _obey(self, policy: document.PolicyDocument) -> None:
        self._policy = policy
        text = document.dump(policy)
        new = self._document.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self._document)
        wanted = fingerprint.of_document(text.encode())
        sidecar.wait_until(lambda: self.running.page(names.PATH_HEALTH)["document"] == wanted)

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the sidecar's metrics; 0 where there is none yet."""
        said = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        series = f"aos_embedding_{name}{{{said}}} " if labels else f"aos_embedding_{name} "
        lines = self.running.admin.get(names.PATH_METRICS).text.splitlines()
        return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Iterator[Table]:
    made = Table(tmp_path_factory.mktemp("table"))
    with faults.served(made.faulty) as url:
        made.url = url
        made.running.wait()
        yield made
        assert made.running.stop() == 0
    assert "Traceback" not in made.running.said()


def is_as_the_row_says(table: Table, row: Row, answer, moved) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (row.status, row.code)
    assert ("retry-after" in answer.headers) is row.retry_after
    assert moved == {row.outcome: row.calls, row.kind: row.calls}


def has_outcome(table: Table, row: Row, kind: str, *, texts: list[str], besides: int = 0) -> None:
    """The caller, metrics and provider see what the row says, and what was bought is kept."""
    table.policy(kind)
    table.faulty.fault, table.faulty.marked = row.fault, MARKED if besides else None
    label, model = kind.lower(), provider.model(kind)

    def moved():
        return {
            row.outcome: table.metric(
                "api_calls_total", provider=label, model=model, outcome=row.outcome
            ),
            row.kind: table.metric("errors_total", provider=label, type=row.kind),
        }

    before = moved()
    answer = table.running.embed(*texts, model=model)
    after = moved()
    is_as_the_row_says(table, row, answer, {key: after[key] - before[key] for key in after})
    # The second try has one half beside the fault's; the third's, which waits, is halved again.
    halves = row.calls if besides and row.is_halved else 0
    assert len(table.faulty.calls) == besides + row.calls + halves

    table.heal()
    healed = table.running.embed(*texts, model=model)
    assert healed.status_code == 200
    kept = len(BATCH) - LAST_TRY if halves else KEPT
    assert healed.headers["x-embedding-cache-hits"] == f"{kept if besides else 0}/{len(texts)}"


@pytest.mark.parametrize("named", ROWS)
@pytest.mark.parametrize(
    ("kind", "texts", "besides"),
    [("OpenAI", ["alone"], 0), ("Voyage", BATCH, PARTS - 1), ("AzureOpenAI", ["alone"], 0)],
    ids=["alone", "in a batch", "at Azure"],
)
def test_provider_failure_has_outcome_of_table(table, named, kind, texts, besides):
    has_outcome(table, ROWS[named], kind, texts=texts, besides=besides)


@pytest.mark.parametrize("named", ROWS)
@pytest.mark.parametrize("kind", ["Gemini", "Cohere", "Mistral", "Jina", "Bedrock"])
def test_failure_of_vendor_with_wire_of_its_own_has_outcome_of_table(table, named, kind):
    if named == "a wrong index" and kind in WITHOUT_INDEX:
        pytest.skip("its answers have no index")
    has_outcome(table, ROWS[named], kind, texts=["alone"])


@pytest.mark.parametrize(("kind", "named"), OWN_ROWS)
def test_failure_that_one_vendor_has_is_told_by_kind(table, kind, named):
    has_outcome(table, OWN_ROWS[kind, named], kind, texts=["alone"])


def test_429_says_by_its_code_that_credit_is_spent_and_is_not_tried_again(table):
    table.policy("OpenAI")
    table.faulty.fault, table.faulty.marked = coded("insufficient_quota"), None
    answer = table.running.embed("alone", model="m")
    assert (answer.status_code, len(table.faulty.calls)) == (429, 1)
    assert answer.json()["error"]["code"] == "provider_credit_exhausted"


def test_name_of_provider_is_gone(table):
    table.policy("OpenAI", url="http://nobody.invalid")
    answer = table.running.embed("alone", model="m")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "all_providers_failed")
    assert table.faulty.calls == []


def test_dead_key_is_not_asked_for_by_next_request(table):
    table.policy("OpenAI")
    table.faulty.fault, table.faulty.marked = provider.status(401), None
    codes = [table.running.embed(f"{number}", model="m").status_code for number in range(5)]
    assert codes == [502] * 5
    assert len(table.faulty.calls) == 1


def test_new_key_that_is_refused_fails_no_request_while_old_one_works(table):
    table.policy("OpenAI")
    table.heal()
    assert table.running.embed("before", model="m").status_code == 200
    numbers = itertools.count(1)

    def tried() -> bool:
        assert table.running.embed(f"{next(numbers)}", model="m").status_code == 200
        return any(call.key == "sk-refused" for call in table.faulty.calls)

    table.write_key("sk-refused")
    sidecar.wait_until(tried)
    assert table.running.page(names.PATH_HEALTH)["providers"] == {"p": "key_refused"}
    table.write_key(provider.KEY)
    sidecar.wait_until(
        lambda: table.running.page(names.PATH_HEALTH)["providers"] == {"p": "ok"},
    )


# --- Redis


@dataclass(frozen=True, kw_only=True)
class StoreRow:
    """A fault of Redis: what makes it, how many of three kept texts are still found, and the type
    of error by which the sidecar counts it; None where it counts none."""

    fault: Callable[[sidecar.Redis], object]
    found: int
    counted: str | None


def _full(running: sidecar.Redis) -> None:
    with redis_client.Redis.from_url(running.url) as client:
        client.config_set("maxmemory", "1")


def _with_an_entry(change: Callable[[redis_client.Redis, bytes], object]):
    def fault(running: sidecar.Redis) -> None:
        with redis_client.Redis.from_url(running.url) as client:
            change(client, min(client.scan_iter("aos:embedding:cache:*")))

    return fault


def _of_another_type(client: redis_client.Redis, key: bytes) -> None:
    client.delete(key)
    client.rpush(key, "x")


STORE_ROWS = {
    "down": StoreRow(fault=lambda it: it.kill(), found=0, counted="cache"),
    "slow": StoreRow(fault=lambda it: os.kill(it.pid, signal.SIGSTOP), found=0, counted="cache"),
    "full": StoreRow(fault=_full, found=3, counted="cache_refused"),
    "of a wrong type": StoreRow(fault=_with_an_entry(_of_another_type), found=2, counted=None),
    "corrupted": StoreRow(
        fault=_with_an_entry(lambda client, key: client.setrange(key, 40, b"\xff\x00\xff")),
        found=2,
        counted=None,
    ),
}


def in_bits(answer) -> list[bytes]:
    return [base64.b64decode(row["embedding"]) for row in answer.json()["data"]]


@pytest.mark.parametrize("named", STORE_ROWS)
def test_redis_fails_between_two_requests(table, redis, named):
    row = STORE_ROWS[named]
    table.policy("OpenAI", redis_url=redis.url)
    table.heal()
    assert table.running.embed("a", "b", "c", model="m").status_code == 200
    # The answer did not wait for Redis to have them.
    with redis_client.Redis.from_url(redis.url) as client:
        sidecar.wait_until(lambda: len(list(client.scan_iter("aos:embedding:cache:*"))) == 3)
    row.fault(redis)
    kind = row.counted or "cache"
    before = table.metric("errors_total", provider="", type=kind)
    answer = table.running.embed("a", "b", "c", "d", model="m")
    assert answer.status_code == 200
    assert in_bits(answer) == [provider.vector("m", text) for text in "abcd"]
    assert answer.headers["x-embedding-cache-hits"] == f"{row.found}/4"
    assert [len(call.body["input"]) for call in table.faulty.calls] == [3, 4 - row.found]
    if row.counted:
        # A write is given up after the answer.
        sidecar.wait_until(lambda: table.metric("errors_total", provider="", type=kind) > before)
    else:
        assert table.metric("errors_total", provider="", type=kind) == before


@pytest.mark.parametrize("named", [name for name, row in STORE_ROWS.items() if row.counted])
def test_redis_fails_while_batch_is_under_way(table, redis, named):
    table.policy("Voyage", redis_url=redis.url)
    table.heal()
    table.faulty.marked = MARKED
    table.faulty.before = lambda: STORE_ROWS[named].fault(redis)
    kind = STORE_ROWS[named].counted
    before = table.metric("errors_total", provider="", type=kind)
    answer = table.running.embed(*BATCH, model="m")
    assert answer.status_code == 200
    assert in_bits(answer) == [provider.vector("m", text) for text in BATCH]
    assert len(table.faulty.calls) == PARTS
    # A write is given up after the answer.
    sidecar.wait_until(lambda: table.metric("errors_total", provider="", type=kind) > before)
