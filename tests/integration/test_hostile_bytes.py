"""Bytes without end, from clients, providers and a Redis, take none of a sidecar's memory.

Cases A1, D2, D4, D8 and D10 of the field, against a real process on real sockets.
"""

import contextlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import httpx2
import pytest
import redis as redis_client

from embedding_contract import document, names
from tests.fakes import provider
from tests.parts import flood, raw_http, sidecar

pytestmark = pytest.mark.integration

CHUNKED = b"POST %b HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
INNER = b"GET /v1/models HTTP/1.1\r\nhost: inner\r\n\r\n"
H2C = (
    b"connection: Upgrade, HTTP2-Settings\r\n"
    b"http2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    b"upgrade: h2c\r\n"
)
LIVE = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % names.PATH_LIVE.encode()
FEW_DESCRIPTORS = 200


@pytest.fixture
def running(from_environment):
    one = from_environment()
    assert one.embed("before").is_success
    assert one.admin.get(names.PATH_METRICS).is_success
    return one


@contextlib.contextmanager
def no_growth(one):
    """Its largest memory grows by no more than an allocator keeps, and it answers after it."""
    before = flood.most_bytes(one.process.pid)
    yield
    assert one.embed("after").is_success
    assert one.admin.get(names.PATH_LIVE).is_success
    assert flood.most_bytes(one.process.pid) - before < flood.GROWTH_BYTES


# --- D2: what follows a body


FRAMING = {
    "trailers": (b"0\r\n", b"a:1\r\n"),
    "name of a trailer": (b"0\r\n", b"a" * 1000),
    "value of a trailer": (b"0\r\na:", b"1" * 1000),
    "chunk extension": (b"1;", b"a=b;"),
}


@pytest.mark.parametrize("framing", FRAMING)
@pytest.mark.parametrize("path", [b"/metrics", names.PATH_LIVE.encode()])
def test_d2_administration_holds_nothing_that_follows_body(running, framing, path):
    start, piece = FRAMING[framing]
    with no_growth(running):
        sent, _ = flood.send(running.admin_port, CHUNKED % path + start, piece)
    assert sent < flood.MOST_BYTES


@pytest.mark.parametrize("framing", FRAMING)
@pytest.mark.parametrize("path", [b"/v1/embeddings", b"/v1/files", b"/nowhere", b"/v1/models"])
def test_d2_api_holds_nothing_that_follows_body(running, framing, path):
    start, piece = FRAMING[framing]
    with no_growth(running):
        sent, _ = flood.send(running.port, CHUNKED % path + start, piece)
    assert sent < flood.MOST_BYTES


@pytest.mark.parametrize("port", ["port", "admin_port"])
@pytest.mark.parametrize(
    "piece",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
    ids=["requests", "offers of an upgrade"],
)
def test_d2_requests_behind_one_another_are_few(running, port, piece):
    with no_growth(running):
        sent, _ = flood.send(getattr(running, port), b"", piece)
    assert sent < flood.MOST_BYTES


def test_d2_heads_of_many_short_lines_take_little(running):
    with no_growth(running), contextlib.ExitStack() as ends:
        for _ in range(100):
            client = ends.enter_context(
                socket.create_connection(("127.0.0.1", running.admin_port), timeout=10)
            )
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 4000)


# --- A1: an upgrade that is not wanted


def exchanged(port, *pieces):
    """All that comes back for these, sent one after the other."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for piece in pieces:
            client.sendall(piece)
            # Two segments, as Java's client sends head and body.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Event().wait(0.05)
        answer = client.recv(65_536)
        # What else would come is there by then.
        client.settimeout(1)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while more := client.recv(65_536):
                answer += more
    return answer


def test_a1_javas_offer_of_http2_is_answered_as_without_it(running):
    body = b'{"model": "text-embedding-3-small", "input": "x"}'
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\n%bcontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n"
    )
    for pieces in ((head % (H2C, len(body)), body), (head % (H2C, len(body)) + body,)):
        answer = exchanged(running.port, *pieces)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        rows = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]
        assert rows[0]["embedding"] == provider.numbers(
            "text-embedding-3-small", "x", provider.DIMENSIONS
        )


@pytest.mark.parametrize("path", [b"/v1/embeddings", b"/v1/chat/completions", b"/nowhere"])
def test_a1_body_is_never_read_as_next_request(running, path):
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n" % (
        path,
        H2C,
        len(INNER),
    )
    answer = exchanged(running.port, head, INNER)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"object":"model"' not in answer


@pytest.mark.parametrize("segments", [1, 2])
def test_a1_pass_through_carries_what_offers_upgrade(start, provider_url, segments):
    got = []

    async def app(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        got.append((dict(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    with sidecar.served(app) as url:
        one = start(
            OPENAI_API_KEY=provider.KEY,
            OPENAI_BASE_URL=f"{provider_url}/v1",
            EMBEDDING_PASSTHROUGH_BASE_URL=f"{url}/v1",
        ).wait()
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer own\r\n%bcontent-length: %d\r\n\r\n" % (H2C, len(INNER))
        )
        answer = exchanged(one.port, *((head, INNER) if segments == 2 else (head + INNER,)))
    assert answer.count(b"HTTP/1.1 200 ") == 1
    ((headers, body),) = got
    assert body == INNER
    assert b"upgrade" not in headers


# --- D8: what a client expects is answered by us


@pytest.mark.parametrize("framed", [b"content-length: 4", b"transfer-encoding: chunked"])
def test_d8_body_is_asked_for_once_and_passed_on_to_server_that_never_asks(
    start, provider_url, framed
):
    """A server of the standard library, which answers when the body has come."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            got.append(dict(self.headers))
            if "Content-Length" in self.headers:
                self.rfile.read(int(self.headers["Content-Length"]))
            else:
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def handle_expect_100(self):
            return True

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        one = start(
            OPENAI_API_KEY=provider.KEY,
            OPENAI_BASE_URL=f"{provider_url}/v1",
            EMBEDDING_PASSTHROUGH_BASE_URL=f"http://127.0.0.1:{server.server_port}/v1",
        ).wait()
        head = (
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer own\r\n"
            b"expect: 100-continue\r\n%b\r\n\r\n" % framed
        )
        body = b"data" if b"length" in framed else b"4\r\ndata\r\n0\r\n\r\n"
        answer = exchanged(one.port, head, body)
        server.shutdown()
    assert answer.count(b"HTTP/1.1 100 ") == 1
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.endswith(b"ok")
    assert "expect" not in {name.lower() for name in got[0]}


# --- D10: scrapes and connections


def scripts_run(asked):
    stats = asked.info("commandstats")
    return sum(it["calls"] for name, it in stats.items() if name.startswith("cmdstat_eval"))


def test_d10_scrape_writes_nothing_and_waits_for_no_redis(from_environment, redis):
    one = from_environment(REDIS_URL=redis.url)
    assert one.embed("counted").is_success
    with redis_client.Redis(port=redis.port) as asked:
        before = scripts_run(asked)
        for _ in range(5):
            text = one.admin.get(names.PATH_METRICS).text
        assert scripts_run(asked) == before
        assert "aos_embedding_daily_calls 1.0" in text
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            # As ever, what is known.
            assert "aos_embedding_daily_calls 1.0" in one.admin.get(names.PATH_METRICS).text
        finally:
            os.kill(redis.pid, signal.SIGCONT)


@pytest.fixture
def with_few_descriptors(provider_url, tmp_path):
    program = Path(sys.executable).parent / "embedding-sidecar"
    one = sidecar.Sidecar(
        environment={"OPENAI_API_KEY": provider.KEY, "OPENAI_BASE_URL": f"{provider_url}/v1"},
        log=tmp_path / "few.log",
        program=["prlimit", f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}", program],
    )
    try:
        one.wait()
        yield one
    finally:
        one.stop(signal.SIGTERM, signal.SIGINT)


def test_d10_administration_connections_leave_places_for_probes(
    with_few_descriptors,
):
    one = with_few_descriptors
    with contextlib.ExitStack() as ends:
        for number in range(2 * FEW_DESCRIPTORS):
            client = ends.enter_context(socket.socket())
            client.settimeout(10)
            client.bind((f"127.0.0.{2 + number % 4}", 0))
            client.connect(("127.0.0.1", one.admin_port))
            with contextlib.suppress(ConnectionError):
                client.sendall(LIVE[:-2] + b"x-slow: ")
        assert len(list(Path(f"/proc/{one.process.pid}/fd").iterdir())) < FEW_DESCRIPTORS
        assert one.embed("asked meanwhile").is_success
        for _ in range(10):
            live = raw_http.answer(one.admin_port, LIVE)
            assert live.status == 200


def test_d10_connections_to_api_are_bounded_and_idle_ones_make_room(with_few_descriptors):
    one = with_few_descriptors
    with contextlib.ExitStack() as ends:
        for _ in range(2 * FEW_DESCRIPTORS):
            client = ends.enter_context(socket.socket())
            client.settimeout(10)
            client.connect(("127.0.0.1", one.port))
        assert one.embed("asked meanwhile").is_success
        assert httpx2.get(
            f"http://127.0.0.1:{one.admin_port}{names.PATH_LIVE}", trust_env=False
        ).is_success


# --- D4: a provider's answer


@pytest.fixture
def with_backup(tmp_path, start, provider_url):
    """Starts a sidecar whose first provider is at a URL and whose second one is fine."""

    def start_one(url, **environment):
        policy = document.PolicyDocument(
            namespace="shop",
            name="main",
            providers=tuple(
                document.Provider(
                    name=name,
                    kind="OpenAICompatible",
                    model="m",
                    base_url=base_url,
                    api_key_file="key",
                    declared_space="same",
                )
                for name, base_url in (("hostile", url), ("fine", f"{provider_url}/extended/v1"))
            ),
            quota=document.Quota(daily_requests=None),
            failover=document.Failover(enabled=True),
        )
        (tmp_path / "document.json").write_text(document.dump(policy), encoding="utf-8")
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        (secrets / "key").write_text(provider.KEY, encoding="utf-8")
        arguments = ("--document", tmp_path / "document.json", "--secrets", secrets)
        return start(*arguments, **environment).wait()

    return start_one


@pytest.mark.parametrize("form", flood.ANSWERS)
def test_d4_answer_without_end_is_given_up_and_another_provider_asked(with_backup, form):
    hostile = flood.Endless(flood.ANSWERS[form])
    with hostile as url:
        one = with_backup(url)
        # Memory that the first answer of any provider takes.
        assert one.embed(*[f"first {number}" for number in range(20)], model="m").is_success
        before = flood.most_bytes(one.process.pid)
        for number in range(3):
            answered = one.embed(f"text {number}", model="m")
            assert answered.is_success
            assert answered.headers["x-embedding-provider"] == "fine"
        assert hostile.asked
        assert flood.most_bytes(one.process.pid) - before < flood.GROWTH_BYTES
        assert hostile.sent_bytes < 4 * flood.MOST_BYTES
