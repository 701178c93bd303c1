"""A sidecar stays within the chart's memory limit, whatever large requests come at once."""

import asyncio
import base64
import json
import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import orjson
import pytest
import yaml

from embedding_contract import names
from tests.parts import sidecar

pytestmark = pytest.mark.integration

VALUES = Path(__file__).parents[2] / "charts" / "embedding-operator" / "values.yaml"
MIB = 2**20
NUMBERS = 1536
BATCH = 2048
CALLERS = 16
MANY = 7
"""Of these batches at once, with what the chart gives."""
LEAST_MIB = 192
"""What has room for one of the largest batches at a time."""


def limit_mib():
    limit = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["sidecar"]["resources"]["limits"]
    assert limit["memory"].endswith("Mi")
    return int(limit["memory"].removesuffix("Mi"))


def vector(number):
    return struct.pack("<f", number) * NUMBERS


class Provider:
    """Makes of a text that is a number the vector of that number; all of them at once."""

    def __init__(self, *, delay_seconds):
        self.delay_seconds = delay_seconds
        self.calls = self.under_way = self.most_under_way = 0

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.calls += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        rows = [
            b'{"index":%d,"embedding":"%b"}' % (index, base64.b64encode(vector(int(text))))
            for index, text in enumerate(orjson.loads(body)["input"])
        ]
        # What would come at once without a bound, comes at once.
        await asyncio.sleep(self.delay_seconds)
        self.under_way -= 1
        answer = b'{"data":[%b],"usage":{"total_tokens":9}}' % b",".join(rows)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})


def ask(running, first, *, encoding):
    """Whether the vectors of so many texts, which nobody has asked for, are the right ones."""
    body = {
        "model": "text-embedding-3-small",
        "input": [str(number) for number in range(first, first + BATCH)],
        "encoding_format": encoding,
    }
    answer = httpx2.post(
        f"http://127.0.0.1:{running.port}{names.PATH_EMBEDDINGS}",
        json=body,
        timeout=100,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    rows = orjson.loads(answer.content)["data"]
    assert [row["index"] for row in rows] == list(range(BATCH))
    for number, row in enumerate(rows, first):
        if encoding == "base64":
            assert base64.b64decode(row["embedding"]) == vector(number)
        else:
            assert row["embedding"] == [number] * NUMBERS


def most_mib(running):
    status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="ascii")
    (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) / 1024


def send(running, name):
    """A connection on which so many texts were asked for."""
    texts = [f"{name} {number}" for number in range(BATCH)]
    body = json.dumps({"model": "text-embedding-3-small", "input": texts}).encode()
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=60)
    connection.sendall(
        f"POST {names.PATH_EMBEDDINGS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return connection


@pytest.fixture
def ask_at_once(from_environment, redis, say):
    """Has as many callers as said ask for a new batch each, of a sidecar with so much memory."""

    def run(stand_in, *, callers, memory_mib, encoding):
        with sidecar.served(stand_in) as url, ThreadPoolExecutor(callers) as pool:
            running = from_environment(
                OPENAI_BASE_URL=f"{url}/v1",
                REDIS_URL=redis.url,
                EMBEDDING_MEMORY_BYTES=str(memory_mib * MIB),
            )
            # One item is asked for before, which tells how long vectors are, and one meanwhile.
            for number in (-1, -2):
                (row,) = running.embed(str(number)).json()["data"]
                assert base64.b64decode(row["embedding"]) == vector(number)
                if number == -1:
                    large = [
                        pool.submit(ask, running, at * BATCH, encoding=encoding)
                        for at in range(callers)
                    ]
            for answered in large:
                answered.result()
        assert stand_in.calls == callers + 2
        say(
            f"{callers} callers with batches of {BATCH} new as {encoding}, "
            f"{stand_in.most_under_way} under way, {memory_mib} MB: {most_mib(running):.0f} MB"
        )
        # What the kernel holds of connections counts too, so a tenth is to be left.
        assert most_mib(running) < 0.9 * memory_mib

    return run


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_job_of_many_workers_is_answered_within_charts_memory(ask_at_once, encoding):
    stand_in = Provider(delay_seconds=2)
    ask_at_once(stand_in, callers=CALLERS, memory_mib=limit_mib(), encoding=encoding)
    # One after the other, the last would have to wait for 30 s, and be refused.
    assert stand_in.most_under_way >= MANY


def test_sidecar_that_has_less_memory_stays_within_it_too(ask_at_once):
    stand_in = Provider(delay_seconds=0.3)
    ask_at_once(stand_in, callers=8, memory_mib=LEAST_MIB, encoding="float")


def test_caller_that_left_while_waiting_for_memory_buys_nothing(from_environment, stand_in):
    stand_in.delay_seconds = 0.5
    running = from_environment(EMBEDDING_MEMORY_BYTES=str(LEAST_MIB * MIB))
    with send(running, "first") as first, first.makefile("rb") as answer:
        sidecar.wait_until(lambda: stand_in.calls)
        send(running, "left").close()
        with send(running, "last") as last, last.makefile("rb") as other:
            assert answer.read().startswith(b"HTTP/1.1 200")
            assert other.read().startswith(b"HTTP/1.1 200")
    asked = [call.body["input"][0] for call in stand_in.calls]
    assert asked == ["first 0", "last 0"]


def test_request_waiting_for_memory_is_told_that_process_ends(from_environment, stand_in):
    stand_in.delay_seconds = 5
    running = from_environment(EMBEDDING_MEMORY_BYTES=str(LEAST_MIB * MIB))
    with send(running, "asks") as asks, asks.makefile("rb") as first:
        sidecar.wait_until(lambda: stand_in.calls)
        with send(running, "waits") as waits, waits.makefile("rb") as second:
            # Connections are accepted in their order, so it has come when this is answered.
            assert running.http.get(names.PATH_MODELS).is_success
            assert running.stop(signal.SIGTERM, signal.SIGINT) == 0
            for answer in (first.read(), second.read()):
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"shutting_down" in answer
    assert len(stand_in.calls) == 1
