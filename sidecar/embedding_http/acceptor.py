"""Accepts the connections of a listening socket, by uvicorn's server."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn


class Acceptor(uvicorn.Server):
    """Makes a `connection` for each client that connects; signals are left to the process."""

    def __init__(
        self, application: Any, *, connection: Callable[[], asyncio.Protocol], backlog: int
    ) -> None:
        self._connection = connection
        self._listening: socket.socket | None = None
        self._running: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                application,
                # uvicorn takes a function that makes a connection as well as a class. Its own
                # settings and state, which it passes, are not used.
                http=cast("type[asyncio.Protocol]", lambda **_: connection()),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                backlog=backlog,
            )
        )

    def start(self, listening: socket.socket) -> None:
        """Accept connections until `stop`."""
        self._listening = listening
        # uvicorn may close its socket while connections are queued, which would reset them. This
        # duplicate shares the queue with ours.
        self._running = asyncio.create_task(self.serve(sockets=[listening.dup()]))

    async def stop(self, *, within_seconds: float) -> None:
        """Accept the connections that are in the socket's queue by then, and close it."""
        listening, running = self._listening, self._running
        if listening is None or running is None:
            return
        self._listening = self._running = None
        self.should_exit = True
        await running
        loop = asyncio.get_running_loop()
        # Ends on an empty queue (BlockingIOError), a lost connection or time (TimeoutError).
        with contextlib.suppress(OSError), listening:
            async with asyncio.timeout(within_seconds):
                while True:
                    connected, _ = listening.accept()
                    connected.setblocking(False)  # noqa: FBT003 - socket's own
                    await loop.connect_accepted_socket(self._connection, connected)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the process has two servers, and ends both in its own handlers."""
        yield
