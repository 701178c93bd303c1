"""The hot path over real sockets: the same bytes as the ordinary path, for any client."""

import json
import re
import socket
import time

import pytest

from embedding_contract import names
from tests.fakes import provider
from tests.parts import sidecar

pytestmark = pytest.mark.integration

MOVES = re.compile(rb"(x-request-id|x-embedding-overhead-ms): [^\r]*\r\n")
REQUEST = {"model": "text-embedding-3-small", "input": ["hello", "you"]}
HEADERS = (
    "content-type",
    "content-length",
    "x-request-id",
    "x-embedding-provider",
    "x-embedding-model",
    "x-embedding-space",
    "x-embedding-cache",
    "x-embedding-cache-hits",
    "x-embedding-attempts",
    "x-embedding-tokens-saved",
    "x-embedding-overhead-ms",
)


def raw(running, body, *headers, pause_seconds=0.0):
    """Everything that comes back for a request whose body follows its head after a pause."""
    lines = (
        f"POST {names.PATH_EMBEDDINGS} HTTP/1.1",
        "host: localhost",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    )
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        time.sleep(pause_seconds)
        connection.sendall(body)
        with connection.makefile("rb") as answer:
            return answer.read()


def test_both_paths_answer_with_same_bytes(from_environment, stand_in):
    running = from_environment()
    body = json.dumps(REQUEST).encode()
    raw(running, body)
    # Half a second is longer than a request is held, and who expects to be asked is a task.
    answers = [
        raw(running, body),
        raw(running, body, pause_seconds=0.01),
        raw(running, body, pause_seconds=0.5),
        raw(running, body, "expect: 100-continue").removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ]
    assert len({MOVES.sub(b"", answer) for answer in answers}) == 1
    assert b"x-embedding-cache-hits: 2/2\r\n" in answers[0]
    assert len(stand_in.calls) == 1


def test_answer_explains_itself(from_environment):
    running = from_environment()
    first = running.embed("a b c")
    second = running.embed("a b c")
    for answer in (first, second):
        said = [name for name in answer.headers if not name.startswith("x-ratelimit-")]
        assert said == list(HEADERS)
        assert float(answer.headers["x-embedding-overhead-ms"]) >= 0
    assert second.headers["x-embedding-tokens-saved"] == "3"
    assert [it.headers["x-embedding-attempts"] for it in (first, second)] == ["1", "0"]


def test_refusal_says_how_often_provider_was_asked(from_environment):
    running = from_environment()
    for text, attempts in (("too long", "1"), ("", "0")):
        refused = running.http.post(
            names.PATH_EMBEDDINGS,
            json={**REQUEST, "input": text},
            headers={"x-request-id": "mine"},
        )
        assert refused.status_code == 400
        assert refused.headers["x-embedding-attempts"] == attempts
        assert refused.headers["x-request-id"] == "mine"


def test_cleared_cache_and_count_hold_on_hot_path(from_environment, stand_in):
    running = from_environment()
    for _ in range(5):
        running.embed("x")
    shown = running.admin.get(names.PATH_METRICS).text
    assert 'aos_embedding_cache_hits_total{layer="memory"} 4.0' in shown
    assert 'aos_embedding_cache_latency_seconds_count{layer="memory"} 5.0' in shown
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    assert running.http.delete(names.PATH_CACHE, headers=token).is_success
    assert running.embed("x").headers["x-embedding-cache"] == "miss"
    assert running.embed("x").headers["x-embedding-cache"] == "hit"
    assert len(stand_in.calls) == 2


def test_sdk_is_answered_while_others_send_slowly(from_environment):
    running = from_environment()
    head = f"POST {names.PATH_EMBEDDINGS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(head.encode() + b"{")
        client = running.openai()
        for _ in range(3):
            answer = client.embeddings.create(model="text-embedding-3-small", input="hi")
            assert len(answer.data[0].embedding) == provider.DIMENSIONS
    finally:
        for connection in slow:
            connection.close()
    assert running.stop() == 0
    assert "Traceback" not in running.said()
