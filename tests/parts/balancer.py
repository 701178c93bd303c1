"""A TCP balancer before replicas, as kube-proxy is for a Service: by connection, in turn."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.parts.tcp_server import PIECE_BYTES, TcpServer


class Balancer:
    """Listens on a port of loopback; each new connection goes to the next of `ports`.

    A connection that is open stays, as connection tracking keeps it.
    """

    def __init__(self) -> None:
        self._ports: list[int] = []
        self._turn = 0
        self._server = TcpServer(self._lead)
        self.port = self._server.port

    def lead_to(self, *ports: int) -> None:
        """Lead new connections to these ports from now on."""
        self._ports = list(ports)

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._server.close()

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
