"""An HTTP proxy before a real API server that harms watches, and lets everything else through.

A request is a connection of its own, whose answer is passed on as it comes.
"""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.parts.tcp_server import PIECE_BYTES, TcpServer

_WATCH = re.compile(rb"[?&]watch=1")


class WatchProxy:
    """Listens on a port of loopback, and speaks to the API server as its kubeconfig says."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self._host, _, port = (
            config["clusters"][0]["cluster"]["server"].rpartition("/")[2].partition(":")
        )
        self._upstream = int(port)
        self._context = _context(config["users"][0]["user"], folder)
        self.watches = 0
        """The watches that were begun."""
        self._refuses: Mapping[str, Any] | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Event] = {}
        self._server = TcpServer(self._answer)

    def kubeconfig(self) -> Path:
        """A kubeconfig that leads here, without credentials."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.port}"}}
            ],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file = self._folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return file

    # --- harms

    def silence(self) -> None:
        """Pass nothing more on by the watches that are open; new ones are let through."""

        def silence_all() -> None:
            for passes in self._open.values():
                passes.clear()

        self._server.call(silence_all)

    def refuse(self, status: int | None, reason: str = "") -> None:
        """End all watches, and answer lists and watches with this error; None: no more."""
        self._refuses = None if status is None else _status(status, reason)

        def end_all() -> None:
            for writer in list(self._open):
                writer.transport.abort()

        if status is not None:
            self._server.call(end_all)

    def tell(self, status: int, reason: str) -> None:
        """Send an ERROR event by each open watch, and end it."""
        line = json.dumps({"type": "ERROR", "object": _status(status, reason)}).encode() + b"\n"
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(line), line)

        def tell_all() -> None:
            for writer, passes in self._open.items():
                passes.clear()
                writer.write(chunks)
                writer.write_eof()

        self._server.call(tell_all)

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._server.close()

    # --- in the server's thread

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                is_read = head.startswith(b"GET") and (b"limit=" in head or _WATCH.search(head))
                if self._refuses is not None and is_read:
                    writer.write(_rendered(self._refuses))
                    await writer.drain()
                    return
                await self._forward(head, reader, writer)
        finally:
            writer.close()

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection(
            self._host, self._upstream, ssl=self._context, server_hostname=""
        )
        passes = asyncio.Event()
        passes.set()
        try:
            first, _, rest = head.partition(b"\r\n")
            back.write(first + b"\r\nConnection: close\r\n" + rest)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length is not None:
                back.write(await reader.readexactly(int(length[1])))
            if _WATCH.search(first):
                self.watches += 1
                self._open[writer] = passes
            while piece := await there.read(PIECE_BYTES):
                await passes.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            self._open.pop(writer, None)
            back.transport.abort()


def _context(user: Mapping[str, str], folder: Path) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    files = [folder / "client.crt", folder / "client.key"]
    keys = ("client-certificate-data", "client-key-data")
    for file, key in zip(files, keys, strict=True):
        file.write_bytes(base64.b64decode(user[key]))
    made.load_cert_chain(files[0], files[1])
    return made


def _status(code: int, reason: str) -> Mapping[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": f"made up: {reason}",
    }


def _rendered(status: Mapping[str, Any]) -> bytes:
    body = json.dumps(status).encode()
    return (
        b"HTTP/1.1 %d Made Up\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%b" % (status["code"], len(body), body)
    )


@contextmanager
def proxied(kubeconfig: Path, folder: Path) -> Iterator[WatchProxy]:
    """A proxy before the API server of a kubeconfig with a client's certificate."""
    made = WatchProxy(kubeconfig, folder)
    try:
        yield made
    finally:
        made.close()
