"""Load: requests in rotation over kept connections, each sent when the answer before it is whole.

It is lean enough to be no bottleneck: `Measured.load_share` says how much of its own core it used.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import uvloop

PATH = "/v1/embeddings"
# What the OpenAI SDK for Python 3.54 sends beside the body.
SDK_HEADERS = (
    "Host: 127.0.0.1:8484",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
    "Accept: application/json",
    "Content-Type: application/json",
    "User-Agent: OpenAI/Python 3.54.0",
    "X-Stainless-Lang: python",
    "X-Stainless-Package-Version: 3.54.0",
    "X-Stainless-OS: Linux",
    "X-Stainless-Arch: x64",
    "X-Stainless-Runtime: CPython",
    "X-Stainless-Runtime-Version: 3.11.7",
    "X-Stainless-Async: false",
    "x-stainless-retry-count: 0",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Requests a second over a whole run, the time of one in the middle and near the end.

    `load_share` is the part of a core the load itself took: near 1, it is what was measured.
    """

    requests_per_second: float
    median_seconds: float
    p99_seconds: float
    load_share: float


def post(
    body: bytes, *, key: str = "sk-stand-in", path: str = PATH, more: Sequence[str] = ()
) -> bytes:
    """The bytes of a request as the SDK sends it."""
    head = (
        f"POST {path} HTTP/1.1",
        *SDK_HEADERS,
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def with_headers(request: bytes, headers: Sequence[str]) -> bytes:
    """The same request with headers more."""
    line, rest = request.split(b"\r\n", 1)
    return b"\r\n".join([line, *(header.encode() for header in headers), rest])


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], *, times: list[float]) -> None:
        self._requests = requests
        self._times = times
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's do what asyncio.Transport says without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(ValueError(f"an answer has status {status}"))
            return
        self._times.append(time.perf_counter() - self._sent_at)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the server closed"))

    def _send(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def run(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    count: int,
    seconds: float = math.inf,
) -> Measured:
    """Send `count` requests, in rotation, over `connections` at once to a server on loopback.

    After `seconds` no more are sent.

    Raises:
        ValueError: an answer is no 200.
        OSError: the server hung up.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ends_at = time.perf_counter() + seconds
        rotating = itertools.islice(itertools.cycle(requests), count)
        timely = itertools.takewhile(lambda _: time.perf_counter() < ends_at, rotating)
        return runner.run(_run(port, timely, connections=connections))


async def _run(port: int, requests: Iterator[bytes], *, connections: int) -> Measured:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    started, used = time.perf_counter(), time.process_time()
    opened = [
        await loop.create_connection(lambda: _Connection(requests, times=times), "127.0.0.1", port)
        for _ in range(connections)
    ]
    try:
        await asyncio.gather(*(protocol.done for _, protocol in opened))
        seconds, used = time.perf_counter() - started, time.process_time() - used
    finally:
        for transport, _ in opened:
            transport.close()
    times.sort()
    return Measured(
        requests_per_second=len(times) / seconds,
        median_seconds=times[len(times) // 2],
        p99_seconds=times[len(times) * 99 // 100],
        load_share=used / seconds,
    )
