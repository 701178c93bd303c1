"""A TCP relay before a real server that can stop forwarding, and leaves TLS alone.

It can keep what clients sent, a piece of memory for each connection.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE_BYTES = 65_536


class Relay:
    """Listens on a port of loopback; what comes goes to another one, until it is frozen."""

    def __init__(self, upstream: int, *, keeps: bool = False) -> None:
        self.port = 0
        self.sent: list[bytearray] = []
        self._keeps = keeps
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._listening.wait()

    def freeze(self) -> None:
        """Accept connections, keep those that are open, and pass nothing on any more."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def thaw(self) -> None:
        """Pass everything on again, what was kept meanwhile too."""
        self._loop.call_soon_threadsafe(self._passing.set)

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
            task = self._loop.create_task(self._relay(reader, writer))
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

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            with suppress(OSError):  # a peer that has gone
                await asyncio.gather(
                    self._pump(reader, back, kept=self._kept()), self._pump(there, writer)
                )
        finally:
            writer.transport.abort()
            back.transport.abort()

    def _kept(self) -> bytearray | None:
        """Where to keep what the client of a new connection sends."""
        if not self._keeps:
            return None
        self.sent.append(bytearray())
        return self.sent[-1]

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        kept: bytearray | None = None,
    ) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if kept is not None:
                kept += piece
            await self._passing.wait()
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


@contextmanager
def relayed(upstream: int, *, keeps: bool = False) -> Iterator[Relay]:
    """A relay to a port of this machine."""
    made = Relay(upstream, keeps=keeps)
    try:
        yield made
    finally:
        made.close()
