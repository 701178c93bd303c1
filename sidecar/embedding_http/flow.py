"""Both directions of one connection: which is paused, and when the bytes to be sent go out."""

import asyncio
import http
from collections.abc import Callable
from typing import Final, NamedTuple

HIGH_WATER_BYTES: Final = 65_536
"""Unread bytes of a body after which reading pauses; the kernel buffers the rest."""
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(100, 600)
}

Coalesce = Callable[[Callable[[], object]], object]
"""Calls its argument, now or at the end of the loop's turn."""


class Reply(NamedTuple):
    """A whole response; `head` is the header lines, each with its line end, names in lower case."""

    status: int
    head: bytes
    body: bytes


def pairs(head: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines, each with its line end, as the pairs of ASGI."""
    halves = (line.partition(b": ") for line in head.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in halves]


class WriteCoalescer:
    """Sends the first write of a turn of the event loop at once, and the rest together after it.

    A write wakes its receiver, and if that is on the same machine, as a sidecar's application is,
    the wake-up is a good part of the sender's costs. Writes that are sent together cause one.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] | None = None
        """The writes to send when the turn is over; None: nothing was sent in it yet."""

    def send(self, send: Callable[[], object]) -> None:
        """Call `send` now, if nothing else was sent in this turn, or else when it is over."""
        if self._waiting is None:
            self._waiting = []
            asyncio.get_running_loop().call_soon(self._over)
            send()
        else:
            self._waiting.append(send)

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, None
        for send in waiting or ():
            try:
                send()
            except Exception as error:  # noqa: BLE001 - the others are to be sent too
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "something could not be sent", "exception": error}
                )


class Flow:
    """The transport of a connection; `coalesce` decides when a whole response is sent."""

    def __init__(self, transport: asyncio.Transport, coalesce: Coalesce) -> None:
        self._transport = transport
        self._coalesce = coalesce
        self._unsent: list[bytes] = []
        self._writable: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    @property
    def is_closing(self) -> bool:
        """True if nothing can be written any more."""
        return self._transport.is_closing()

    def reply(self, reply: Reply, *, is_last: bool) -> None:
        """Write a whole response, and end the connection if it is the last."""
        # One at a time, to notice a client that pipelines many requests and reads no response.
        if self._unsent:
            self.flush()
        end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
        self._unsent += (STATUS_LINES[reply.status], reply.head, end, reply.body)
        if is_last:
            self.close()
        else:
            self._coalesce(self.flush)

    def write(self, data: bytes) -> None:
        """Write the data after all that is still to be sent."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write(data)

    def flush(self) -> None:
        """Write all that is still to be sent."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.writelines(unsent)

    def close(self) -> None:
        """Close the connection once all that was written is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once; unsent bytes are lost."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading: the kernel buffers what comes."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.write_paused = True
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """The client reads again, or is gone."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()

    async def drain(self) -> None:
        """Wait until the client reads again, or is gone."""
        if self.write_paused and self._writable is not None:
            await self._writable.wait()
