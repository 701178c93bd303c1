"""Malformed requests: no answer of ours is a 5xx, and nothing of them stays behind.

Bodies that are nearly right, over connections that are kept; bytes that are nearly HTTP, over
connections of their own; and conversations that are right in every form that HTTP allows, which
have one answer for each request, in order, and none that goes around cache and quota (field cases
A1, A2, D2, D8). The short forms run with every test, the long ones in `make soak`.
"""

import asyncio
import base64
import http.client
import itertools
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embedding_contract import document, names
from tests.fakes import provider
from tests.parts import bodies, conversations, flood, raw_http, sidecar, watched

pytestmark = pytest.mark.integration

SHORT, LONG = 2_000, 100_000
AT_ONCE = 20
MOST_OF_A_TEST = 5_000
"""Connections."""
CACHE_BYTES = 2**20
GROWTH_BYTES = 3 * 2**20
"""Of the process's own memory, after it has seen each kind of request: an allocator's slack."""
OF_A_REQUEST = "RequestResponseCycle.run_asgi"
REFUSALS = {400, 404, 413, 415, 422}
MODELS = {"small": "small", "voyage": "voyage"}

HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Cache-Control": st.sampled_from(["no-cache", "no-store", "max-age=1", "max-age", "x=y"])
        | st.from_regex(r"[ -~]{0,20}", fullmatch=True),
        "x-request-id": st.from_regex(r"[ -~]{0,20}", fullmatch=True),
        "Content-Type": st.sampled_from(["application/json", "text/plain", "application/JSON; x"]),
        "Content-Encoding": st.sampled_from(["identity", "gzip"]),
    },
)
CUTS = st.none() | st.integers(0, 200)
REQUESTS = st.tuples(bodies.any_body([*MODELS]) | bodies.JUNK, HEADERS, CUTS)


@pytest.fixture
def echo():
    return conversations.Echo()


@pytest.fixture
def echo_url(echo):
    with sidecar.served(echo) as url:
        yield url


@pytest.fixture
def running(tmp_path, provider_url, echo_url):
    """A sidecar with little cache and no limit, that can be asked for its tasks."""
    policy = document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=(
            document.Provider(
                name="a",
                kind="OpenAI",
                model="small",
                base_url=f"{provider_url}/v1",
                api_key_file="key",
            ),
            document.Provider(
                name="b",
                kind="Voyage",
                model="voyage",
                base_url=f"{provider_url}/voyage/v1",
                api_key_file="key",
            ),
        ),
        quota=document.Quota(daily_requests=None),
        cache=document.Cache(memory_max_bytes=CACHE_BYTES),
        passthrough=document.PassThrough(base_url=f"{echo_url}/v1"),
    )
    (tmp_path / "document.json").write_text(document.dump(policy), encoding="utf-8")
    # Of their own, or the log would be read as one of them.
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text(provider.KEY, encoding="utf-8")
    one = sidecar.Sidecar(
        *("--document", tmp_path / "document.json", "--secrets", secrets),
        environment={"PYTHONPATH": ":".join(sys.path)},
        log=tmp_path / "log",
        program=[sys.executable, "-m", watched.__name__],
    )
    yield one.wait()
    one.stop()


def tasks(one):
    """What the process has under way."""
    before = one.said().count(watched.MARK)
    one.process.send_signal(signal.SIGUSR1)
    sidecar.wait_until(lambda: one.said().count(watched.MARK) > before)
    return Counter(one.said().rsplit(watched.MARK, 1)[1].split())


def files(one):
    return len(list(Path(f"/proc/{one.process.pid}/fd").iterdir()))


def own_memory_bytes(one):
    status = Path(f"/proc/{one.process.pid}/status").read_text(encoding="utf-8")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def in_openais_form(body):
    error = json.loads(body)["error"]
    return error.keys() == {"message", "type", "param", "code"} and bool(error["message"])


def examples(number):
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def nearly_right(one, number):
    """Bodies that are nearly right; an answer has the bits of what was asked."""
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=30)

    @examples(number)
    @given(REQUESTS)
    def ask(request):
        body, headers, cut = request
        connection.request("POST", names.PATH_EMBEDDINGS, json.dumps(body).encode()[:cut], headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            assert answer.status in REFUSALS, said
            assert in_openais_form(said)
            return
        items = body["input"] if isinstance(body["input"], list) else [body["input"]]
        is_tokens = not isinstance(items[0], (str, list))
        data = json.loads(said)["data"]
        assert [row["index"] for row in data] == list(range(1 if is_tokens else len(items)))
        if body.get("encoding_format") == "base64" and isinstance(items[0], str):
            kind = body.get("input_type") if body["model"] == "voyage" else None
            kind = "document" if kind == "passage" else kind  # Voyage's word for it
            size = body.get("dimensions") or body.get("output_dimension") or provider.DIMENSIONS
            assert [base64.b64decode(row["embedding"]) for row in data] == [
                provider.vector(body["model"], item, int(size), kind) for item in items
            ]

    ask()
    connection.close()


def nearly_http(one, number):
    """Bytes that are nearly HTTP, some of them at once."""

    async def ask_all(requests):
        ports = itertools.cycle((one.port, one.port, one.admin_port))
        return await asyncio.gather(
            *(raw_http.ask(port, raw) for port, raw in zip(ports, requests, strict=False))
        )

    @examples(number // AT_ONCE)
    @given(st.lists(raw_http.changed(), min_size=AT_ONCE, max_size=AT_ONCE))
    def ask(requests):
        for raw, answer in zip(requests, asyncio.run(ask_all(requests)), strict=True):
            if answer is None:
                continue
            assert answer.status < 500, (raw, answer)
            # What passed through is answered in the other side's form.
            if answer.status >= 400 and answer.body and b"server: uvicorn" not in answer.head:
                assert in_openais_form(answer.body), (raw, answer)

    ask()


def campaign(one, number, say):
    for kind in (nearly_right, nearly_http):
        kind(one, max(number // 10, 200))
    sidecar.wait_until(lambda: files(one) < AT_ONCE and not tasks(one)[OF_A_REQUEST])
    before = tasks(one), own_memory_bytes(one)
    most_before = flood.most_bytes(one.process.pid)
    for kind in (nearly_right, nearly_http):
        kind(one, number // 2)
    sidecar.wait_until(lambda: tasks(one) == before[0])
    growth = own_memory_bytes(one) - before[1]
    say(f"{number:,} fuzzed requests: own memory grew by {growth / 2**20:.1f} MiB")
    assert growth < GROWTH_BYTES
    assert flood.most_bytes(one.process.pid) - most_before < flood.GROWTH_BYTES
    # It serves on, and ends as it should.
    assert one.embed("still there", model="small").is_success
    assert one.stop() == 0
    assert "Traceback" not in one.said()


@pytest.mark.timeout(300)
def test_fuzzed_requests_leave_nothing_behind(running, say):
    campaign(running, SHORT, say)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_100000_fuzzed_requests_leave_nothing_behind(running, say):
    campaign(running, LONG, say)


# --- one request, one answer


def converse(one, echo, number, *targets):
    """So many connections; how many requests were answered on them, each once."""
    names_of_all = itertools.count()
    answered = 0

    async def converse_all(spoken):
        return await asyncio.gather(
            *(conversations.converse(one.port, it, f"c{next(names_of_all)}") for it in spoken)
        )

    drawn = st.lists(conversations.conversations(*targets), min_size=AT_ONCE, max_size=AT_ONCE)

    def speak_of(connections):
        # One test after the other: hypothesis holds all that it has drawn for one.
        @examples(connections // AT_ONCE)
        @given(drawn)
        def speak(spoken):
            nonlocal answered
            echo.seen.clear()
            answered += sum(asyncio.run(converse_all(spoken)))
            assert not [it for it in echo.seen.items() if it[1] > 1], "passed on twice"

        speak()

    for _ in range(max(number // MOST_OF_A_TEST, 1)):
        speak_of(min(number, MOST_OF_A_TEST))
    assert next(names_of_all) >= number
    return answered


def conversing(one, echo, number, say):
    kinds = (conversations.OTHERS, conversations.PASSED)
    answered = converse(one, echo, number, *map(st.sampled_from, kinds), conversations.NEAR)
    say(f"{number:,} connections: {answered:,} requests, each answered once and in order")
    assert one.stop() == 0
    assert "Traceback" not in one.said()


@pytest.mark.timeout(300)
def test_each_request_of_connection_has_one_answer(running, echo, say):
    conversing(running, echo, SHORT, say)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_each_request_of_100000_connections_has_one_answer(running, echo, say):
    conversing(running, echo, LONG, say)
