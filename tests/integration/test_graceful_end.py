"""SIGTERM: running requests finish, late ones are answered, and leases are released."""

import asyncio
import contextlib
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import redis as client_of_redis
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from embedding_contract import names
from embedding_sidecar.api import server
from embedding_sidecar.quota import quota_store
from tests.fakes import provider
from tests.parts import sidecar

pytestmark = pytest.mark.integration

LONGER_THAN_A_DRAIN = 3 * server.DRAIN_SECONDS
TIME_IS_OVER = "to come to an end are over"


@pytest.fixture
def running(from_environment, redis):
    return from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="1000")


@pytest.fixture
def background():
    with ThreadPoolExecutor(64) as threads:
        yield threads


class Day:
    """The day in Redis."""

    def __init__(self, redis: sidecar.Redis) -> None:
        self._redis = redis

    def __getitem__(self, field: str) -> int:
        with client_of_redis.Redis(port=self._redis.port) as client:
            (key,) = client.keys(f"{quota_store.PREFIX}*")
            return int(client.hget(key, field))


@pytest.fixture
def day(redis):
    return Day(redis)


def ask(running, text, **more):
    """A request on a connection of its own, which is closed after it."""
    body = {"model": "text-embedding-3-small", "input": text}
    url = f"http://127.0.0.1:{running.port}{names.PATH_EMBEDDINGS}"
    return httpx2.post(url, json=body, timeout=60, trust_env=False, **more)


def raw_request(text: str) -> bytes:
    body = json.dumps({"model": "text-embedding-3-small", "input": text}).encode()
    return (
        b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
        % (names.PATH_EMBEDDINGS.encode(), len(body))
    ) + body


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def whole(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def refuses(port: int) -> bool:
    return not sidecar.listens(port)


def terminate(running: sidecar.Sidecar) -> None:
    running.process.send_signal(signal.SIGTERM)


def ended(running: sidecar.Sidecar) -> bool:
    """Whether it ends by itself, and well."""
    return running.process.wait(sidecar.ENDED_SECONDS) == 0


def test_request_under_way_is_answered_and_grant_goes_back(running, stand_in, background, day):
    stand_in.delay_seconds = 1.0
    asked = background.submit(ask, running, "under way")
    sidecar.wait_until(lambda: stand_in.calls)
    assert day["calls"] == 16
    terminate(running)
    answer = asked.result()
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert ended(running)
    assert (day["calls"], day["spent_calls"]) == (1, 1)


def test_open_connections_are_answered_and_new_ones_refused(running, day):
    with connect(running.port) as idle, connect(running.port) as begun:
        begun.sendall(raw_request("begun")[:60])
        terminate(running)
        sidecar.wait_until(lambda: refuses(running.port))
        idle.sendall(raw_request("idle"))
        begun.sendall(raw_request("begun")[60:])
        answers = [whole(idle), whole(begun)]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer
    assert ended(running)
    assert day["calls"] == 2


def test_requests_sent_before_signal_are_answered(running, day):
    """Also where the connection waits in the kernel yet."""
    running.process.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as all_of_them:
        waiting = [all_of_them.enter_context(connect(running.port)) for _ in range(50)]
        for number, connection in enumerate(waiting):
            connection.sendall(raw_request(f"text {number}"))
        terminate(running)
        running.process.send_signal(signal.SIGCONT)
        answers = [whole(connection) for connection in waiting]
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * 50
    assert ended(running)
    assert day["calls"] == 50


def test_metrics_are_scraped_until_end(running, stand_in, background):
    stand_in.delay_seconds = 1.0
    asked = background.submit(ask, running, "under way")
    sidecar.wait_until(lambda: stand_in.calls)
    terminate(running)
    sidecar.wait_until(lambda: refuses(running.port))
    assert "aos_embedding_daily_calls" in running.admin.get(names.PATH_METRICS).text
    assert not asked.done()
    assert asked.result().is_success
    assert ended(running)


def test_stream_that_passes_through_comes_to_its_end(start):
    go_on = threading.Event()

    async def chat(_):
        async def chunks():
            yield b"data: one\n\n"
            await asyncio.to_thread(go_on.wait)
            yield b"data: [DONE]\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    with sidecar.served(app) as url:
        running = start(OPENAI_API_KEY=provider.KEY, OPENAI_BASE_URL=f"{url}/v1").wait()
        address = f"http://127.0.0.1:{running.port}/v1/chat/completions"
        key = {"authorization": "Bearer sk-own"}
        with httpx2.stream("POST", address, headers=key, json={}, trust_env=False) as answer:
            chunks = answer.iter_raw()
            first = next(chunks)
            terminate(running)
            sidecar.wait_until(lambda: refuses(running.port))
            go_on.set()
            rest = b"".join(chunks)
    assert (first, rest) == (b"data: one\n\n", b"data: [DONE]\n\n")
    assert ended(running)


def test_call_that_outlives_its_caller_is_awaited_and_settled(running, stand_in, day):
    stand_in.delay_seconds = 1.0
    with connect(running.port) as caller:
        caller.sendall(raw_request("one two three"))
        sidecar.wait_until(lambda: stand_in.calls)
    terminate(running)
    assert ended(running)
    # By what was billed, and not by the bound, which is what a call cut short would cost.
    assert (day["calls"], day["spent_tokens"]) == (1, 3)


def test_vectors_bought_last_are_found_by_next_pod(
    running, stand_in, background, from_environment, redis
):
    """Also while Redis takes its time, and a batch, for which no connection is made yet."""
    texts = [f"{number}" for number in range(1000)]
    stand_in.delay_seconds = 1.0
    asked = background.submit(ask, running, texts)
    sidecar.wait_until(lambda: stand_in.calls)
    with client_of_redis.Redis(port=redis.port) as client:
        client.client_pause(1500)
    terminate(running)
    assert asked.result().headers["x-embedding-cache-hits"] == "0/1000"
    assert ended(running)
    calls = len(stand_in.calls)
    after = from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="1000")
    assert ask(after, texts).headers["x-embedding-cache-hits"] == "1000/1000"
    assert len(stand_in.calls) == calls


def test_request_beyond_drain_time_is_cut_and_counts_as_billed(running, stand_in, background, day):
    """Nor does who keeps an idle connection keep the sidecar."""
    stand_in.delay_seconds = LONGER_THAN_A_DRAIN
    with connect(running.port) as idle:
        asked = background.submit(ask, running, "for ever")
        sidecar.wait_until(lambda: stand_in.calls)
        terminate(running)
        answer = asked.result()
        assert whole(idle) == b""
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert ended(running)
    assert (day["calls"], day["spent_calls"]) == (1, 1)
    assert TIME_IS_OVER in running.said()
    assert "Traceback" not in running.said()


def test_second_signal_ends_it_at_once(running, stand_in, background, day):
    stand_in.delay_seconds = LONGER_THAN_A_DRAIN
    asked = background.submit(ask, running, "for ever")
    sidecar.wait_until(lambda: stand_in.calls)
    terminate(running)
    sidecar.wait_until(lambda: refuses(running.port))
    terminate(running)
    assert asked.result().json()["error"]["code"] == "shutting_down"
    assert ended(running)
    assert TIME_IS_OVER not in running.said()
    assert day["calls"] == 1
