"""One HTTP server on every address of the pod."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Final

from starlette.types import ASGIApp

from embedding_http import server
from embedding_http.bounds import Bounds
from embedding_http.connection_limit import ConnectionLimit
from embedding_http.protocol import Listener

BOUNDS: Final = Bounds(head_seconds=10.0, keep_alive_seconds=30.0)
"""Connections are kept longer than sidecars keep one without a request, 15 s: the server that
closes first loses the request that is just being sent."""
MAX_CONNECTIONS: Final = 1_024
MAX_PER_ADDRESS: Final = 64
"""A sidecar opens one for each search that it has under way."""
DRAIN_SECONDS: Final = 10
"""Requests that run at SIGTERM have this long to end, longer than a search takes."""

_log = logging.getLogger(__name__)


async def serve(application: ASGIApp, *, listening: socket.socket, until: asyncio.Event) -> None:
    """Serve until the event is set, and let the requests that run then end."""
    limit = ConnectionLimit(MAX_CONNECTIONS, per_address=MAX_PER_ADDRESS, spares_answering=True)
    listener = Listener(application=application, bounds=BOUNDS, limit=limit)
    await server.Server(listener).serve(listening, until=until, drain_seconds=DRAIN_SECONDS)


@contextlib.asynccontextmanager
async def beside(application: ASGIApp, *, port: int) -> AsyncIterator[None]:
    """Serve while the block runs. Only the block matters: it also runs where the port is taken."""
    try:
        listening = server.listen(port)
    except server.PortTaken as error:
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
