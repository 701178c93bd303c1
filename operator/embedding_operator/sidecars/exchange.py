"""One request on one TCP connection, bounded in time and bytes, for untrusted servers.

The whole answer is read as bytes first and parsed afterwards: nothing can delay the reader beyond
the deadline, and nothing is decoded before it is counted.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import h11

DEADLINE_SECONDS: Final = 2.0
"""The time for connect, request, head and body."""
ANSWER_BYTES: Final = 80 * 1024
"""The limit for an answer with its head. A sidecar's pages are below 64 KiB."""
HEAD_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 64 * 1024
_READ_APART_SECONDS: Final = 0.005
"""A pause between reads, so that an answer in segments of one byte costs hundreds of reads."""
_RECEIVE_BUFFER_BYTES: Final = 64 * 1024


class NoAnswerError(Exception):
    """There is no valid answer; the text follows the pod's name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The value of a header that occurs once, else None."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None


async def get(address: str, port: int, *, target: str, headers: Mapping[str, str]) -> Answer:
    """GET a target of an IP address; follows no redirect.

    Raises:
        NoAnswerError: there is no HTTP/1.1 answer within the bounds.
    """
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise NoAnswerError("has no IP address") from None  # a name would have to be looked up
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    connection = h11.Connection(h11.CLIENT)
    asked = h11.Request(
        method="GET",
        target=target,
        headers=[
            ("Host", host),
            ("Connection", "close"),
            ("Accept-Encoding", "identity"),
            *headers.items(),
        ],
    )
    request = (connection.send(asked) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            raw = await _exchange(address, port, request)
    except TimeoutError:
        raise NoAnswerError(f"sent no complete answer within {DEADLINE_SECONDS:g} s") from None
    except OSError as error:
        raise NoAnswerError(_reason(error)) from None
    return _parsed(connection, raw)


async def _exchange(address: str, port: int, request: bytes) -> bytes:
    """All bytes until the other side closes."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connected:
        connected.settimeout(0)
        # The kernel's buffer counts as this container's memory.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        await loop.sock_connect(connected, (address, port))
        await loop.sock_sendall(connected, request)
        raw = bytearray()
        while piece := await loop.sock_recv(connected, _READ_BYTES):
            raw += piece
            if len(raw) > ANSWER_BYTES:
                raise NoAnswerError(f"answered with more than {ANSWER_BYTES // 1024} KiB")
            await asyncio.sleep(_READ_APART_SECONDS)
        return bytes(raw)


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, ConnectionError):
        return "reset the connection"
    return f"cannot be reached ({error.strerror or type(error).__name__})"


def _parsed(connection: h11.Connection, raw: bytes) -> Answer:
    if not raw:
        raise NoAnswerError("closed the connection without an answer")
    if not 0 < raw.find(b"\r\n\r\n") <= HEAD_BYTES:
        raise NoAnswerError("sent no valid answer of a sidecar (no head)")
    try:
        connection.receive_data(raw)
        connection.receive_data(b"")
        head = connection.next_event()
        if not isinstance(head, h11.Response):
            raise NoAnswerError("sent no valid answer of a sidecar (an interim response)")
        found = tuple((key.decode("latin-1"), it.decode("latin-1")) for key, it in head.headers)
        # A sidecar's pages have a length. A chunked body costs a hundred times as much to read.
        coded = {"transfer-encoding", "content-encoding"}.intersection(key for key, _ in found)
        if coded:
            raise NoAnswerError(f"sent no valid answer of a sidecar ({min(coded)})")
        body = bytearray()
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            raise NoAnswerError("sent no valid answer of a sidecar (no end)")
    except h11.RemoteProtocolError:
        raise NoAnswerError("sent no valid answer of a sidecar (not HTTP/1.1)") from None
    return Answer(head.status_code, found, bytes(body))
