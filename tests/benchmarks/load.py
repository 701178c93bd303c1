"""Load: one request again and again over kept connections, counted by the bytes of its answer."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import uvloop


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Requests a second over a whole run, and the time of one in the middle and near the end."""

    requests_per_second: float
    median_seconds: float
    p99_seconds: float


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is whole."""

    def __init__(self, request: bytes, *, answer_bytes: int, times: list[float], of: int) -> None:
        self._request = request
        self._answer_bytes = answer_bytes
        self._times = times
        self._of = of
        self._missing = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's do what asyncio.Transport says without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing < 0:
            self.done.set_exception(ValueError("an answer is longer than the first one was"))
        if self._missing == 0:
            self._times.append(time.perf_counter() - self._sent_at)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed"))

    def _send(self) -> None:
        assert self._transport is not None
        if len(self._times) >= self._of:
            if not self.done.done():
                self.done.set_result(None)
            return
        self._missing = self._answer_bytes
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


def run(port: int, request: bytes, *, connections: int, requests: int) -> Measured:
    """Send `requests` over `connections` at once to a server on loopback."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(port, request, connections=connections, requests=requests))


async def _run(port: int, request: bytes, *, connections: int, requests: int) -> Measured:
    answer_bytes = await _answer_bytes(port, request)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    started = time.perf_counter()
    opened = [
        await loop.create_connection(
            lambda: _Connection(request, answer_bytes=answer_bytes, times=times, of=requests),
            "127.0.0.1",
            port,
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    seconds = time.perf_counter() - started
    for transport, _ in opened:
        transport.close()
    times.sort()
    return Measured(
        requests_per_second=len(times) / seconds,
        median_seconds=times[len(times) // 2],
        p99_seconds=times[len(times) * 99 // 100],
    )


async def _answer_bytes(port: int, request: bytes) -> int:
    """How long an answer is, head and body; every answer to one request must be as long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise ValueError(f"the server answers {lines[0].decode()}")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return len(head) + length
