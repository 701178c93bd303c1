"""A small HTTP/1.1 server for probes and scrapes: GET only, one request a connection.

Connections, bytes and seconds are bounded, so that no client can keep others from their answers.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11

from embedding_contract import sockets

_LOG = logging.getLogger(__name__)

CONNECTIONS: Final = 64
"""Open connections; one more ends the oldest of the address that has most."""
EXCHANGE_SECONDS: Final = 5.0
"""From the connection to the end of the answer; kubelet waits no longer for a probe."""
HEAD_BYTES: Final = 8 * 1024
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


Page = Callable[[str], Reply]
"""Makes the answer of a path, from the Accept header, which may be empty."""


class Listener:
    """Serves pages by their paths on a port of all addresses."""

    def __init__(self, *, port: int, pages: Mapping[str, Page], name: str) -> None:
        self._port = port
        self._pages = pages
        self._name = name
        self._open: dict[str, dict[asyncio.WriteTransport, None]] = {}
        """Connections by the address of the client, the oldest first."""

    def start(self) -> None:
        """Listen, and answer in a thread of its own.

        Raises:
            OSError: the port cannot be bound.
        """
        bound = sockets.listen_on_all(self._port)
        threading.Thread(
            target=lambda: asyncio.run(self._serve(bound)), name=self._name, daemon=True
        ).start()

    async def _serve(self, bound: socket.socket) -> None:
        server = await asyncio.start_server(self._answer, sock=bound, limit=HEAD_BYTES)
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        peer = writer.get_extra_info("peername")[0]
        self._admit(peer, transport)
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_rendered(self._reply(head)))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError):
            return  # the client does not send or does not read
        finally:
            transport.abort()
            self._leave(peer, transport)

    def _admit(self, peer: str, transport: asyncio.WriteTransport) -> None:
        if sum(map(len, self._open.values())) >= CONNECTIONS:
            most = max(self._open, key=lambda it: len(self._open[it]))
            oldest = next(iter(self._open[most]))
            oldest.abort()
            # At once: each of many that arrive in one turn of the loop must end another.
            self._leave(most, oldest)
        self._open.setdefault(peer, {})[transport] = None

    def _leave(self, peer: str, transport: asyncio.WriteTransport) -> None:
        """Forget a connection; repeating it changes nothing."""
        of_peer = self._open.get(peer, {})
        of_peer.pop(transport, None)
        if not of_peer:
            self._open.pop(peer, None)

    def _reply(self, head: bytes) -> Reply:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(head)
        try:
            request = parser.next_event()
        except h11.RemoteProtocolError:
            request = None
        if not isinstance(request, h11.Request) or request.method not in {b"GET", b"HEAD"}:
            return Reply(HTTPStatus.BAD_REQUEST, b"only GET is answered\n")
        page = self._pages.get(request.target.partition(b"?")[0].decode("latin-1"))
        if page is None:
            return Reply(HTTPStatus.NOT_FOUND, b"not found\n")
        accept = dict(request.headers).get(b"accept", b"").decode("latin-1")
        try:
            return page(accept)
        except Exception:  # noqa: BLE001 - a bug of one page must not end the thread
            _LOG.exception("%s: a page failed", self._name)
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed: see the log\n")


def _rendered(reply: Reply) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + reply.body
