"""Both directions of one connection: what is paused, and what is still to go out."""

import asyncio
import http
from collections.abc import Callable
from typing import Final, NamedTuple

HIGH_WATER_BYTES: Final = 65_536
"""Of a body that nobody has read yet; what comes beyond is left to the kernel."""
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(100, 600)
}

Coalesce = Callable[[Callable[[], object]], object]
"""Calls what it is given, now or at the end of the loop's turn."""


class Reply(NamedTuple):
    """A whole response; `head` is the header lines, each with its end, names in lower case."""

    status: int
    head: bytes
    body: bytes


def pairs(head: bytes) -> list[tuple[bytes, bytes]]:
    """The lines of a head, each with its end, as ASGI has them."""
    halves = (line.partition(b": ") for line in head.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in halves]


class Flow:
    """The transport of a connection; `coalesce` says when a whole response goes out."""

    def __init__(self, transport: asyncio.Transport, coalesce: Coalesce) -> None:
        self._transport = transport
        self._coalesce = coalesce
        self._unsent: list[bytes] = []
        self._writable: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

    def reply(self, reply: Reply, *, is_last: bool) -> None:
        """Write a whole response, and end the connection if it is the last."""
        # One at a time: a client that asks for many in one go and reads none is to be noticed.
        if self._unsent:
            self.flush()
        end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
        self._unsent += (STATUS_LINES[reply.status], reply.head, end, reply.body)
        if is_last:
            self.close()
        else:
            self._coalesce(self.flush)

    def write(self, data: bytes) -> None:
        """Write behind what is still to go out."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write(data)

    def flush(self) -> None:
        """Write what is still to go out."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.writelines(unsent)

    def close(self) -> None:
        """End the connection behind what was written."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once, with what is still to be sent."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Leave what comes to the kernel."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take again what comes."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.write_paused = True
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It reads again, or is gone."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()

    async def drain(self) -> None:
        """Wait until the client reads again, or is gone."""
        if self.write_paused and self._writable is not None:
            await self._writable.wait()
