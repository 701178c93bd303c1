"""Two HTTP servers in one process and one loop: the API on loopback, administration on the pod."""

import asyncio
import contextlib
import functools
import logging
import select
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

from embedding_contract import sockets
from embedding_sidecar import errors
from embedding_sidecar.serving import connections
from embedding_sidecar.serving.connection_limit import ConnectionLimit

API_HOST: Final = "127.0.0.1"
DRAIN_SECONDS: Final = 7.0
"""How long what runs may take to end after SIGTERM. With what follows, 3 s at worst, this is within
the 10 s that `docker stop` waits, and well within the 30 s of a pod."""
CUT_SECONDS: Final = 1
_TICK_SECONDS: Final = 0.05
_BACKLOG: Final = 2048
_CLOSE: Final = (b"connection", b"close")

_log = logging.getLogger(__name__)


class PortTaken(OSError):  # noqa: N818 - as the other errors
    """A port that cannot be listened on; the text names it."""


def listen_on_loopback(port: int) -> socket.socket:
    """A socket that only this pod reaches.

    Raises:
        PortTaken: somebody else listens there.
    """
    try:
        return socket.create_server((API_HOST, port), backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(
            f"port {port} on {API_HOST} cannot be listened on: {error.strerror}"
        ) from None


def listen_on_all(port: int) -> socket.socket:
    """A socket on every address of the pod, whichever family those are of.

    Raises:
        PortTaken: somebody else listens there.
    """
    try:
        return sockets.listen_on_all(port, backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(f"port {port} cannot be listened on: {error.strerror}") from None


class Server(uvicorn.Server):
    """A server that leaves signals to the process, which has two of them."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        protocol: type[connections.Connection] = connections.Connection,
        limit: ConnectionLimit | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                loop="uvloop",
                # A function that makes one does as well.
                http=cast("type[asyncio.Protocol]", functools.partial(protocol, limit=limit)),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=CUT_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    @property
    def connections(self) -> list[connections.Connection]:
        """The clients that are connected."""
        return cast("list[connections.Connection]", list(self.server_state.connections))

    async def stop_accepting(self) -> None:
        """Take no new connection; each open one is closed by the answer to its next request."""
        listening = [socket for server in self.servers for socket in server.sockets]
        # What the kernel has accepted for us is taken first, or it would be reset. uvloop may take
        # one connection a turn, and more may come as fast.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_SECONDS):
                while select.select(listening, (), (), 0)[0]:  # noqa: ASYNC110 - as just said
                    await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        # uvicorn renews the headers of all answers from this once a second.
        self.config.encoded_headers = [_CLOSE]
        self.server_state.default_headers = [_CLOSE]
        for connection in self.connections:
            connection.close_after_answer()

    async def cut(self) -> None:
        """End whatever is still under way, and wait until it has ended."""
        under_way = [it for it in self.connections if it.is_answering]
        if under_way:
            _log.warning("%d requests are cut", len(under_way))
        for connection in self.connections:
            connection.cut(
                errors.Unavailable("This sidecar is being shut down.", code="shutting_down")
            )
        tasks = list(self.server_state.tasks)
        if tasks:
            logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CUT_SECONDS)


async def serve(
    *,
    api: tuple[Server, socket.socket],
    admin: tuple[Server, socket.socket],
    until: asyncio.Event,
    at_once: asyncio.Event,
    busy: Callable[[], bool],
) -> None:
    """Serve until the event is set; then let what runs come to its end, unless `at_once` is set.

    No new connection is accepted then. Open ones are answered until their clients close them: an
    application that is shutting down itself may still ask. `busy` tells of work whose caller is
    gone. Administration goes on till the end.
    """
    servers = [server for server, _ in (api, admin)]
    running = [
        asyncio.create_task(server.serve(sockets=[listening])) for server, listening in (api, admin)
    ]
    await _first([until.wait()], or_done=running)
    if not any(task.done() for task in running):
        await servers[0].stop_accepting()
        await _first([_drained(servers[0], busy), at_once.wait()], or_done=running)
        await servers[0].cut()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*running)


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Uvicorn takes the end of a request that was cut for an error of the application."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


async def _drained(server: Server, busy: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            # uvicorn tells nobody when a connection ends.
            while server.connections or busy():  # noqa: ASYNC110 - as just said
                await asyncio.sleep(_TICK_SECONDS)
    except TimeoutError:
        _log.warning("the %.0f s to come to an end are over", DRAIN_SECONDS)


async def _first(
    waits: Iterable[Coroutine[Any, Any, object]], *, or_done: Iterable["asyncio.Task[None]"]
) -> None:
    """Wait until one of these has ended; end the other waits."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait([*tasks, *or_done], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
