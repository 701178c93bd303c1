"""A server of one listening socket: it starts, stops accepting, and shuts down gracefully."""

import asyncio
import contextlib
import logging
import socket
from typing import Final

from embedding_contract import sockets
from embedding_http.acceptor import Acceptor
from embedding_http.bounds import RefusedRequest
from embedding_http.protocol import HttpProtocol, Listener

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 2048
CUT_SECONDS: Final = 1
_TICK_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class PortTaken(OSError):  # noqa: N818 - the adjective says what is wrong
    """A port that cannot be listened on; the text names it."""


def listen(port: int, *, host: str | None = None) -> socket.socket:
    """A socket that listens on this host, or on every address of the pod, IPv4 or IPv6.

    Raises:
        PortTaken: another program listens there.
    """
    try:
        if host is not None:
            return sockets.without_delay(socket.create_server((host, port), backlog=BACKLOG))
        return sockets.listen_on_all(port, backlog=BACKLOG)
    except OSError as error:
        where = f"port {port}" if host is None else f"port {port} on {host}"
        raise PortTaken(f"{where} cannot be listened on: {error.strerror}") from None


class Server:
    """Serves the connections of one socket, each with a `protocol` of its own."""

    def __init__(self, listener: Listener, *, protocol: type[HttpProtocol] = HttpProtocol) -> None:
        self._protocol = protocol
        self._listener = listener
        self._acceptor = Acceptor(
            listener.application, connection=self._connection, backlog=BACKLOG
        )

    @property
    def has_connections(self) -> bool:
        """True if any client is connected."""
        return bool(self._listener.connections)

    async def serve(
        self, listening: socket.socket, *, until: asyncio.Event, drain_seconds: float = CUT_SECONDS
    ) -> None:
        """Serve until the event is set; requests under way then have `drain_seconds` to end."""
        await self.start(listening)
        await until.wait()
        await self.close(drain_seconds=drain_seconds)

    async def start(self, listening: socket.socket) -> None:
        """Accept connections."""
        self._acceptor.start(listening)

    async def stop_accepting(self) -> None:
        """Take no new connection; each open one ends with the response to its next request."""
        self._listener.is_ending = True
        for connection in self._listener.connections:
            connection.end_after_last()
        await self._acceptor.stop(within_seconds=CUT_SECONDS)

    async def cut(self, error: RefusedRequest) -> None:
        """Close all connections, requests under way included, and wait for their tasks."""
        connections = list(self._listener.connections)
        if under_way := sum(it.is_answering for it in connections):
            _log.warning("%d requests are cut", under_way)
        for connection in connections:
            connection.cut(error)
        await self._cancel()

    async def close(self, *, drain_seconds: float = CUT_SECONDS) -> None:
        """Accept nothing more, end idle connections, and let requests under way end in time."""
        await self.stop_accepting()
        for connection in list(self._listener.connections):
            connection.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                # Each ends by itself, at a time of its own.
                while self._listener.connections or self._listener.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_TICK_SECONDS)
        await self._cancel()

    def _connection(self) -> HttpProtocol:
        return self._protocol(self._listener)

    async def _cancel(self) -> None:
        tasks = list(self._listener.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_SECONDS)
