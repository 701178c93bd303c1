"""One HTTP server on every address of the pod."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from embedding_contract import sockets
from embedding_vectors.serving.connections import Connection, ConnectionLimit

_BACKLOG: Final = 2048
KEPT_SECONDS: Final = 30
"""Longer than sidecars keep a connection without a request, 15 s: the server that closes first
loses the request that is just being sent."""
DRAIN_SECONDS: Final = 10
"""What runs at SIGTERM has this long to end, longer than a search takes."""


_log = logging.getLogger(__name__)


class PortTaken(OSError):  # noqa: N818 - an adjective says what is wrong with what
    """A port that cannot be listened on; the text names it."""


def listen(port: int) -> socket.socket:
    """A socket on every address of the pod, whichever family those are of.

    Raises:
        PortTaken: another program listens there.
    """
    try:
        return sockets.listen_on_all(port, backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(f"port {port} cannot be listened on: {error.strerror}") from None


class Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    def __init__(self, application: ASGIApp) -> None:
        limit = ConnectionLimit()

        class Limited(Connection):
            """A connection of this listener."""

        Limited.limit = limit
        super().__init__(
            uvicorn.Config(
                application,
                loop="uvloop",
                http=Limited,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEPT_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve(application: ASGIApp, *, listening: socket.socket, until: asyncio.Event) -> None:
    """Serve until the event is set; what runs then comes to its end."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = Server(application)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    stopped = asyncio.create_task(until.wait())
    await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopped.cancel()
    await running


@contextlib.asynccontextmanager
async def beside(application: ASGIApp, *, port: int) -> AsyncIterator[None]:
    """Serve while the block runs, which is what matters: where the port is taken, it runs alone."""
    try:
        listening = listen(port)
    except PortTaken as error:
        _log.warning("no page of this worker is served: %s", error)
        yield
        return
    ended = asyncio.Event()
    serving = asyncio.create_task(serve(application, listening=listening, until=ended))
    try:
        yield
    finally:
        ended.set()
        await serving
