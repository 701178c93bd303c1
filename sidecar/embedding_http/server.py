"""A server of one listening socket: it begins, stops accepting, and ends in good order."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final, cast

import uvicorn

from embedding_contract import sockets
from embedding_http.bounds import RefusedRequest
from embedding_http.protocol import HttpProtocol, Listener

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 2048
CUT_SECONDS: Final = 1
_TICK_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class PortTaken(OSError):  # noqa: N818 - an adjective says what is wrong with what
    """A port that cannot be listened on; the text names it."""


def listen(port: int, *, host: str | None = None) -> socket.socket:
    """A socket of this host, or on every address of the pod, whichever family those are of.

    Raises:
        PortTaken: another program listens there.
    """
    try:
        if host is not None:
            return socket.create_server((host, port), backlog=BACKLOG)
        return sockets.listen_on_all(port, backlog=BACKLOG)
    except OSError as error:
        where = f"port {port}" if host is None else f"port {port} on {host}"
        raise PortTaken(f"{where} cannot be listened on: {error.strerror}") from None


class _Uvicorn(uvicorn.Server):
    """uvicorn's server; the process has two, and ends both by its own handlers of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


class Server:
    """Serves the connections of one socket, each of them a `protocol`; uvicorn accepts them."""

    def __init__(self, listener: Listener, *, protocol: type[HttpProtocol] = HttpProtocol) -> None:
        self._protocol = protocol
        self._listener = listener
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                listener.application,
                # uvicorn takes a function that makes a connection as well as a class. Its own
                # settings and state, which it passes, are not used.
                http=cast("type[asyncio.Protocol]", lambda **_: self._connection()),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                backlog=BACKLOG,
            )
        )

    @property
    def has_connections(self) -> bool:
        """Whether any client is connected."""
        return bool(self._listener.connections)

    async def serve(
        self, listening: socket.socket, *, until: asyncio.Event, drain_seconds: float = CUT_SECONDS
    ) -> None:
        """Serve until the event is set; what is under way then has so long to end."""
        await self.start(listening)
        await until.wait()
        await self.close(drain_seconds=drain_seconds)

    async def start(self, listening: socket.socket) -> None:
        """Accept connections."""
        self._listening = listening
        # uvicorn may close its socket while connections are in the queue, which would reset them.
        # Both sockets have the same queue.
        self._accepting = asyncio.create_task(self._uvicorn.serve(sockets=[listening.dup()]))

    async def stop_accepting(self) -> None:
        """Take no new connection but those in the socket's queue by then, and close it.

        Each open one ends with the response to its next request.
        """
        self._listener.is_ending = True
        for connection in self._listener.connections:
            connection.end_after_last()
        listening, accepting = self._listening, self._accepting
        if listening is None or accepting is None:
            return
        self._listening = self._accepting = None
        self._uvicorn.should_exit = True
        await accepting
        loop = asyncio.get_running_loop()
        # Until the queue is empty (BlockingIOError) or a connection is lost; more may come as fast.
        with contextlib.suppress(TimeoutError, OSError), listening:
            async with asyncio.timeout(CUT_SECONDS):
                while True:
                    connected, _ = listening.accept()
                    connected.setblocking(False)  # noqa: FBT003 - socket's own
                    await loop.connect_accepted_socket(self._connection, connected)

    async def cut(self, error: RefusedRequest) -> None:
        """End whatever is still under way, and wait until it has ended."""
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
