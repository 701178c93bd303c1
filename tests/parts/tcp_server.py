"""A TCP server on an event loop of its own, in a thread: for what stands between real programs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

PIECE_BYTES = 65_536
_LAST_TURNS = 10

Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TcpServer:
    """Serves each connection by `serves`, at an address and a port: by default any free one."""

    def __init__(self, serves: Serves, *, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._serves = serves
        self._at = at
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._listening.wait()

    def call(self, what: Callable[[], object]) -> None:
        """Call it on the loop, and wait until it has returned."""
        done = threading.Event()

        def do() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(do)
        done.wait()

    def cut(self) -> None:
        """End the connections that are open, as a server does that restarts."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serves(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(connected, *self._at)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        # A connection that was just accepted is a task some turns later.
        for _ in range(_LAST_TURNS):
            self._cut()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()
