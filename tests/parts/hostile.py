"""The attacks of another tenant's pod by the network: any answer, and any request.

Everything is bounded in bytes and seconds, and goes to loopback only. What hostile servers were
sent is kept, so that a test can look for secrets in it.
"""

import asyncio
import contextlib
import gzip
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from embedding_contract import names

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

MIB: Final = 1024**2
RAID_SECONDS: Final = 3.0
RAID_BYTES: Final = 24 * MIB
CROWD: Final = 150
ATTACKING_PODS: Final = 4
_SERVED_SECONDS: Final = 30.0
_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def address(number: int) -> str:
    """An address of loopback that no other test process has."""
    pid = os.getpid()
    return f"127.{64 + pid // 250 % 128}.{pid % 250}.{number}"


# --- servers


async def _drip_head(writer: Writer) -> None:
    for byte in _OK * 100:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.4)


async def _drip_body(writer: Writer) -> None:
    writer.write(_OK + b"content-length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.4)


async def _informational(writer: Writer) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 20)
        await writer.drain()
        await asyncio.sleep(0.05)


async def _endless(writer: Writer) -> None:
    writer.write(_OK + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await writer.drain()


async def _bomb(writer: Writer) -> None:
    body = gzip.compress(b"[" * (16 * MIB))
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(_OK + head + body)
    await writer.drain()


async def _silent(_: Writer) -> None:
    await asyncio.sleep(_SERVED_SECONDS)


async def _reset(writer: Writer) -> None:
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def _page(body: bytes) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        writer.write(_OK + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    return answer


def _redirect(to: str) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        writer.write(f"HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    return answer


_LIE: Final = {
    "document_fingerprint": "0" * 16,
    "secrets_fingerprint": "0" * 16,
    "rejected": "x" * 60_000,
    "keys_refused": [],
    "daily_quota": 1,
    "current_count": 10**18,
    "reset_at": "9999-12-31T23:59:59-23:59",
    "exact": True,
    "exact_reason": "",
}
ANSWERS: Final[dict[str, Callable[[Writer], Awaitable[None]]]] = {
    "drips its head": _drip_head,
    "drips its body": _drip_body,
    "answers 1xx for ever": _informational,
    "has an endless body": _endless,
    "sends a gzip bomb": _bomb,
    "accepts and is silent": _silent,
    "resets": _reset,
    "has deep JSON": _page(b"[" * 60_000),
    "has a huge number": _page(b'{"current_count": ' + b"9" * 60_000 + b"}"),
    "lies": _page(json.dumps(_LIE).encode()),
    "redirects to the metadata address": _redirect("http://169.254.169.254/latest"),
    "redirects to another pod": _redirect(f"http://{address(1)}:{names.ADMIN_PORT}/metrics"),
}


class Network:
    """A loop in a thread: hostile servers at pods' addresses, and relays to honest ones."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self.heard = bytearray()
        self.asked: dict[str, int] = dict.fromkeys(ANSWERS, 0)

    def hostile(self, number: int) -> str:
        """An address where a server answers in one of the hostile ways."""
        kind = list(ANSWERS)[number % len(ANSWERS)]

        async def serve(reader: Reader, writer: Writer) -> None:
            self.asked[kind] += 1
            try:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_SERVED_SECONDS):
                        if len(self.heard) < RAID_BYTES:
                            self.heard += await reader.read(65_536)
                        await ANSWERS[kind](writer)
            finally:
                writer.close()

        return self._listen(number, serve)

    def relay(self, number: int, port: int) -> str:
        """An address where a real sidecar's admin port answers."""

        async def serve(reader: Reader, writer: Writer) -> None:
            try:
                with contextlib.suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    try:
                        await asyncio.gather(_pour(reader, back), _pour(there, writer))
                    finally:
                        back.close()
            finally:
                writer.close()

        return self._listen(number, serve)

    def close(self) -> None:
        """End all servers."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        for server in self._servers:
            server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    def _listen(self, number: int, serve: Callable[[Reader, Writer], Awaitable[None]]) -> str:
        at = address(number)
        made = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(serve, at, names.ADMIN_PORT), self._loop
        )
        self._servers.append(made.result(10))
        return at


async def _pour(reader: Reader, writer: Writer) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


# --- clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Ports that every pod of a cluster can reach."""

    sidecar: int
    webhook: int
    others: tuple[int, ...] = ()


@dataclass(slots=True)
class Raids:
    """Threads that attack the targets until told to stop; what they do is drawn from a seed.

    `made` counts the raids, `obeyed` names forged requests that were answered.
    """

    targets: Targets
    seed: int
    review: Callable[[random.Random], bytes]
    heard: bytearray
    made: dict[str, int] = field(default_factory=dict)
    obeyed: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, *, threads: int) -> None:
        """Begin."""
        for number in range(threads):
            drawn = random.Random(self.seed * 1000 + number)
            thread = threading.Thread(target=self._run, args=(drawn,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End within the bound of one raid."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(RAID_SECONDS * 4)

    def _run(self, drawn: random.Random) -> None:
        raids = [*RAIDS, "raid_endless_part", "raid_endless_part"]
        while not self._stopping.is_set():
            name = drawn.choice(raids)
            with contextlib.suppress(OSError):
                getattr(self, name)(drawn)
            self.made[name] = self.made.get(name, 0) + 1

    def raid_endless_part(self, drawn: random.Random) -> None:
        """Trailers, chunk extensions, heads or bodies without end."""
        chunked = b"POST /metrics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        begun, rest = drawn.choice(
            [
                (chunked + b"0\r\n", b"a:1\r\n" * 10_000),
                (chunked + b"1;", b"x=y;" * 10_000),
                (chunked, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
                (b"GET /metrics HTTP/1.1\r\n", b"a: 1\r\n" * 10_000),
                (b"GET /metrics HTTP/1.1\r\na: ", b"x" * 65_536),
                (b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n",
                 b" " * 65_536),
            ]
        )  # fmt: skip
        port = drawn.choice([*[self.targets.sidecar] * 4, *self.targets.others])
        with _connected(port, drawn) as sent:
            sent.sendall(begun)
            until, left = time.monotonic() + RAID_SECONDS, RAID_BYTES
            while time.monotonic() < until and left > 0 and not self._stopping.is_set():
                sent.sendall(rest)
                left -= len(rest)

    def raid_crowd(self, drawn: random.Random) -> None:
        """Many connections that say half of a head, or nothing."""
        port = drawn.choice([self.targets.sidecar, self.targets.webhook, *self.targets.others])
        half = drawn.choice([b"", b"GET /metrics HTTP/1.1\r\nhost:", b"\x16\x03\x01"])
        with contextlib.ExitStack() as open_ones:
            for _ in range(CROWD):
                open_ones.enter_context(_connected(port, drawn)).sendall(half)
            self._stopping.wait(drawn.uniform(0.1, RAID_SECONDS))

    def raid_forged_request(self, drawn: random.Random) -> None:
        """Management pages with tokens that are none, and with what the operator sent us."""
        heard = bytes(self.heard[-65_536:])
        replayed = [
            line.partition(b":")[2].strip()
            for line in heard.split(b"\r\n")
            if line.lower().startswith(b"authorization:")
        ]
        word = drawn.choice([b"Bearer x", b"Bearer ", b"EmbeddingProof x", *replayed[-20:]])
        method, path = drawn.choice(
            [
                (b"GET", names.PATH_CONFIG),
                (b"GET", names.PATH_QUOTA),
                (b"GET", names.PATH_CACHE_STATS),
                (b"DELETE", names.PATH_CACHE),
                (b"POST", names.PATH_EMBEDDINGS),
            ]
        )
        with _connected(self.targets.sidecar, drawn) as sent:
            sent.sendall(
                method + b" " + path.encode() + b" HTTP/1.1\r\nhost: a\r\nauthorization: " + word
                + b"\r\nupgrade: h2c\r\nconnection: upgrade, close\r\ncontent-length: 0\r\n\r\n"
            )  # fmt: skip
            if sent.recv(65_536).split(b" ")[1:2] == [b"200"]:
                self.obeyed.append(f"{method.decode()} {path}")

    def raid_scrapes(self, drawn: random.Random) -> None:
        """More scrapes than anybody needs, pipelined or not."""
        one = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"
        with _connected(self.targets.sidecar, drawn) as sent:
            sent.sendall(one * drawn.randrange(1, 500))
            until = time.monotonic() + RAID_SECONDS
            while time.monotonic() < until and sent.recv(65_536):
                pass

    def raid_review(self, drawn: random.Random) -> None:
        """Admission reviews of our own making."""
        with (
            _connected(self.targets.webhook, drawn) as plain,
            _trusting_all().wrap_socket(plain) as sent,
        ):
            for _ in range(drawn.randrange(1, 20)):
                body = self.review(drawn)
                sent.sendall(
                    b"POST /inject HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n" % len(body) + body
                )
                if not sent.recv(65_536):
                    return


RAIDS: Final = tuple(it for it in dir(Raids) if it.startswith("raid_"))


def _connected(port: int, drawn: random.Random) -> socket.socket:
    """A connection from one of the attacker's pods, so not from where probes come from."""
    source = (address(200 + drawn.randrange(ATTACKING_PODS)), 0)
    made = socket.create_connection(("127.0.0.1", port), RAID_SECONDS, source)
    made.settimeout(RAID_SECONDS)
    return made


def _trusting_all() -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made
