"""A network that is not ours: a proxy asked by CONNECT, and a server of a private authority.

Both run in a loop of their own in a thread.
"""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts import raw_server

PIECE_BYTES = 65_536
HEAD_BYTES = 65_536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str, port: int
) -> None:
    """Connect both ends with another server."""
    further, back = await asyncio.open_connection(host, port)
    try:
        await asyncio.gather(_copy(reader, back), _copy(further, writer))
    finally:
        back.transport.abort()
        writer.transport.abort()


@dataclass
class Proxy:
    """`asked` are the first lines of all requests; `status` other than 200 refuses each.

    `places` says where a name is, as no DNS does.
    """

    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            self.asked.append(line)
            method, target, _ = line.split(" ")
            if self.status != 200 or method != "CONNECT":
                status = 405 if self.status == 200 else self.status
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
                return
            host, _, port = target.rpartition(":")
            where = self.places.get(target, (host, int(port)))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _join(reader, writer, host=where[0], port=where[1])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return
        finally:
            writer.close()


@contextmanager
def running(*, host: str = "127.0.0.1", port: int = 0) -> Iterator[Proxy]:
    """A proxy that listens there."""
    made = Proxy()
    with _served(made.handle, host=host, port=port) as bound:
        made.url = f"http://{host}:{bound}"
        yield made


@contextmanager
def with_tls(
    folder: Path, *, port: int, names: tuple[str, ...], host: str = "127.0.0.1"
) -> Iterator[tuple[int, str]]:
    """A port by TLS in front of a server's; with it the authority that has to be believed, PEM."""
    file = raw_server.certificate(folder, *names)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await _join(reader, writer, host=host, port=port)

    certificate = file.read_text(encoding="utf-8").partition("-----BEGIN PRIVATE KEY")[0]
    with _served(handle, host=host, port=0, tls=raw_server.with_certificate(file)) as bound:
        yield bound, certificate


@contextmanager
def _served(handle, *, host: str, port: int, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(handle, host, port, ssl=tls, limit=HEAD_BYTES)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # what was aborted is closed in the next turn
