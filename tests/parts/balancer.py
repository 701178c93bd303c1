"""A TCP balancer before replicas, as kube-proxy is for a Service: by connection, in turn."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.parts.relay import PIECE_BYTES


class Balancer:
    """Listens on a port of loopback; each new connection goes to the next of `ports`.

    A connection that is open stays, as connection tracking keeps it.
    """

    def __init__(self) -> None:
        self.port = 0
        self._ports: list[int] = []
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._listening.wait()

    def lead_to(self, *ports: int) -> None:
        """Lead new connections to these ports from now on."""
        self._ports = list(ports)

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._lead(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._ports:
                return
            self._turn += 1
            port = self._ports[self._turn % len(self._ports)]
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await asyncio.gather(_pump(reader, back), _pump(there, writer))
                finally:
                    back.transport.abort()
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


@contextmanager
def balanced() -> Iterator[Balancer]:
    """A balancer that leads nowhere yet."""
    made = Balancer()
    try:
        yield made
    finally:
        made.close()
