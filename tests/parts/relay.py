"""A TCP relay before a real server that can stop forwarding, and leaves TLS alone.

It can keep what clients sent, a piece of memory for each connection.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.parts.tcp_server import PIECE_BYTES, TcpServer


class Relay:
    """Listens on a port of loopback; what comes goes to another one, until it is frozen.

    Without `at`, an address and a port, any free port does.
    """

    def __init__(
        self, upstream: int, *, keeps: bool = False, at: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.sent: list[bytearray] = []
        self._keeps = keeps
        self._upstream = upstream
        self._passing = asyncio.Event()
        self._passing.set()
        self._server = TcpServer(self._relay, at=at)
        self.port = self._server.port

    def freeze(self) -> None:
        """Accept connections, keep those that are open, and pass nothing on any more."""
        self._server.call(self._passing.clear)

    def thaw(self) -> None:
        """Pass everything on again, what was kept meanwhile too."""
        self._server.call(self._passing.set)

    def cut(self) -> None:
        """End the connections that are open, as a server does that restarts."""
        self._server.cut()

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        try:
            with suppress(OSError):  # a peer that has gone
                there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
                await asyncio.gather(
                    self._pump(reader, back, kept=self._kept()), self._pump(there, writer)
                )
        finally:
            writer.transport.abort()
            if back is not None:
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
