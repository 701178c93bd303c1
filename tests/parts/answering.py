"""The servers that may answer on a pod's address: a sidecar with its proof, and any other.

One loop serves any number of addresses of loopback on one port, so that pods differ by address as
they do in a cluster.
"""

import asyncio
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableSequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from embedding_contract import names, proof
from tests.parts import ports

Behaviour = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers a connection on which this head has come."""

CONFIG: dict[str, Any] = {
    "document_fingerprint": "d",
    "secrets_fingerprint": "s",
    "rejected": None,
    "keys_refused": [],
}
DAY: dict[str, Any] = {
    "daily_quota": 10,
    "current_count": 1,
    "reset_at": "2026-01-02T00:00:00Z",
    "exact": True,
    "exact_reason": "",
}


def target(head: bytes) -> str:
    """The path that a request asks for."""
    return head.split(b" ", 2)[1].decode()


def credentials(head: bytes) -> proof.Credentials | None:
    """The proof that a request carries."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode().partition(": ")
        if name.lower() == "authorization":
            return proof.parse(value)
    return None


def rendered(status: int, body: bytes, **headers: str) -> bytes:
    """An answer with a length."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Sidecar:
    """A sidecar as the operator sees it: it takes a proof for its pod, and gives one."""

    token: str
    uid: str
    pages: dict[str, Any] = field(
        default_factory=lambda: {names.PATH_CONFIG: CONFIG, names.PATH_QUOTA: DAY}
    )
    status: int = 200
    requests: MutableSequence[bytes] = field(default_factory=list)

    def answer(self, head: bytes, *, body: bytes | None = None) -> bytes:
        """The answer to a request, signed if the request was."""
        self.requests.append(head)
        given = credentials(head)
        path = target(head)
        if (
            given is None
            or given.pod != self.uid
            or not given.is_signed(self.token, method="GET", path=path)
        ):
            return rendered(401, b"{}", www_authenticate="EmbeddingProof, Bearer")
        said = json.dumps(self.pages.get(path)).encode() if body is None else body
        signed = proof.sign_answer(self.token, nonce=given.nonce, status=self.status, body=said)
        return rendered(self.status, said, **{proof.ANSWER_HEADER.replace("-", "_"): signed})

    async def __call__(
        self, head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self.answer(head))


def saying(sidecar: Sidecar, body: bytes) -> Behaviour:
    """Whoever holds the token, and signs this body."""

    async def answer(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sidecar.answer(head, body=body))

    return answer


def sends(raw: bytes) -> Behaviour:
    """Sends this, and closes."""

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return answer


def repeats(start: bytes, piece: bytes, *, every_seconds: float = 0.0) -> Behaviour:
    """Sends the start, and then the piece for ever."""

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.transport.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_seconds)

    return answer


async def silent(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accepts, and says nothing."""
    await reader.read()


async def resets(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection by RST."""
    writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s
    writer.transport.abort()


def redirects(url: str) -> Behaviour:
    """Leads elsewhere."""
    return sends(rendered(307, b"", location=url))


_GZIP = gzip.compress(b"")
_OK = b"HTTP/1.1 200 OK\r\n"
HEADS_EVERY_SECONDS = 0.2

HOSTILE: dict[str, Behaviour] = {
    "drips a head": repeats(b"", b"H", every_seconds=HEADS_EVERY_SECONDS),
    "drips headers": repeats(_OK, b"a: b\r\n", every_seconds=HEADS_EVERY_SECONDS),
    "drips a body": repeats(
        _OK + b"content-length: 9999\r\n\r\n", b" ", every_seconds=HEADS_EVERY_SECONDS
    ),
    "drips 1xx": repeats(b"", b"HTTP/1.1 103 X\r\n\r\n", every_seconds=HEADS_EVERY_SECONDS),
    "1xx for ever": repeats(b"", b"HTTP/1.1 100 X\r\n\r\n"),
    "one 1xx": sends(b"HTTP/1.1 100 X\r\n\r\n" + rendered(200, b"{}")),
    "gzip of empty blocks": repeats(
        _OK + b"content-encoding: gzip\r\n\r\n", _GZIP, every_seconds=HEADS_EVERY_SECONDS
    ),
    "gzip": sends(rendered(200, _GZIP, content_encoding="gzip")),
    "tiny chunks": sends(_OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 9_999),
    "endless body": repeats(_OK + b"\r\n", b" " * 65_536),
    "endless head": repeats(_OK, b"a: b\r\n" * 1_000),
    "a large head": sends(_OK + b"a: b\r\n" * 10_000 + b"\r\n"),
    "accepts and is silent": silent,
    "resets": resets,
    "closes": sends(b""),
    "no HTTP": sends(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"),
    "a length that is none": sends(_OK + b"content-length: -1\r\n\r\n"),
    "cut short": sends(_OK + b"content-length: 100\r\n\r\n{}"),
    "redirect to the metadata address": redirects("http://169.254.169.254/latest/meta-data/"),
    "redirect to itself": redirects(names.PATH_CONFIG),
    "bearer only": sends(rendered(401, b"{}", www_authenticate="Bearer")),
    "no proof": sends(rendered(200, json.dumps(CONFIG).encode())),
    "a wrong proof": sends(rendered(200, json.dumps(CONFIG).encode(), x_embedding_proof="0" * 64)),
    "two proofs": sends(
        _OK + b"x-embedding-proof: a\r\nx-embedding-proof: b\r\ncontent-length: 0\r\n\r\n"
    ),
}
"""Everything that may be there and holds no token."""

DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
STRANGE_PAGES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"no JSON",
    "a list": b"[]",
    "a text": b'"text"',
    "an empty object": b"{}",
    "no UTF-8": b"\xff",
    "deep JSON": DEEP,
    "an integer of 10^4 digits": b'{"document_fingerprint": ' + b"9" * 10_000 + b"}",
}
"""What whoever holds the token may sign for each page."""


_LAST_TURNS = 10


class Answering:
    """Addresses, and what is there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._stop.wait())
        self._loop.run_until_complete(self._end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _end(self) -> None:
        # A connection that was just accepted is a task some turns later.
        for _ in range(_LAST_TURNS):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def at(self, address: str, behaviour: Behaviour) -> None:
        """From now on this is what answers there."""
        asyncio.run_coroutine_threadsafe(self._listen(address, behaviour), self._loop).result()

    async def _listen(self, address: str, behaviour: Behaviour) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted[address] = self.accepted.get(address, 0) + 1
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behaviour(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            writer.transport.abort()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(connected, address, self.port)
        self._tasks.add(self._loop.create_task(server.serve_forever()))

    def close(self) -> None:
        """Answer no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@contextmanager
def answering(port: int | None = None) -> Iterator[Answering]:
    """Addresses at which something answers, on one port."""
    made = Answering(port or ports.free())
    made._thread.start()
    try:
        yield made
    finally:
        made.close()
