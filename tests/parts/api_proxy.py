"""An HTTP proxy before a real API server that counts writes and does what a fault says.

A request is a connection of its own. Its answer is passed on as it comes where nothing harms it.
Clients bring their own tokens.
"""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.parts.api_faults import Fault, Harm, To
from tests.parts.tcp_server import PIECE_BYTES, TcpServer

LATE_SECONDS: Final = 2.0
"""The delay of late events, and the time for which an old list is all that there is."""
_WATCH: Final = re.compile(rb"[?&]watch=1")
_NAMESPACE: Final = re.compile(r"/namespaces/([^/?]+)/")
_LENGTH: Final = re.compile(rb"(?i)content-length: (\d+)")
_ACCEPT: Final = re.compile(rb"(?i)\r\naccept: ([^\r]*)")
_SUCCESS: Final = re.compile(rb"HTTP/1\.1 2")
_READS: Final = frozenset({"GET"})


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request, and its body."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.partition(b" ")[0].decode()

    @property
    def path(self) -> str:
        """With its query."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def namespace(self) -> str:
        """The one that its object is in; empty for all other requests."""
        return _namespace(self.path)

    @property
    def to(self) -> To:
        if self.method not in _READS:
            return To.WRITES
        if _WATCH.search(self.head.partition(b"\r\n")[0]):
            return To.WATCHES
        return To.LISTS if "limit=" in self.path else To.READS

    @property
    def listed(self) -> tuple[str, bytes]:
        """What a list is of: its path, and the form in which it is wanted."""
        accepted = _ACCEPT.search(self.head)
        return self.path, accepted[1] if accepted else b""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault in a namespace, at its `at`-th request of that sort; or at each about a plural."""

    fault: Fault
    at: int
    of: str = ""

    def harms(self, request: Request, *, counted: int) -> bool:
        """True for a request that is the `counted`-th of its sort in the namespace."""
        if self.fault.to is not request.to:
            return False
        return f"/{self.of}/" in request.path if self.of else self.at == counted


class ApiProxy:
    """Listens on a port of loopback, and speaks to the API server of a kubeconfig.

    `kill` ends the client; it is called in the proxy's thread.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self._host, _, port = (
            config["clusters"][0]["cluster"]["server"].rpartition("/")[2].partition(":")
        )
        self._upstream = int(port)
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self.watches = 0
        """The watches that were begun."""
        self.written: list[tuple[str, str]] = []
        """Method and path of each write that the API server carried out."""
        self.struck: Counter[str] = Counter()
        """How often each fault has harmed something, by its name."""
        self.kill: Callable[[], object] = lambda: None
        self._plans: dict[str, Planned] = {}
        self._everywhere: Fault | None = None
        self._counted: Counter[tuple[str, To]] = Counter()
        self._listed: dict[tuple[str, bytes], bytes] = {}
        self._harmed_kinds: set[tuple[str, bytes]] = set()
        self._old_until: float | None = None
        self._refuses: Mapping[str, Any] | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Event] = {}
        self._server = TcpServer(self._answer)

    def kubeconfig(self, given: Path) -> Path:
        """A kubeconfig that leads here, with the token of another."""
        config = yaml.safe_load(given.read_text(encoding="utf-8"))
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._server.port}"}
        file = self._folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return file

    # --- harms by plan

    def plan(self, namespace: str, fault: Fault, *, at: int = 0, of: str = "") -> None:
        """Harm the `at`-th write or read in a namespace from now on, or all of a plural."""

        def put() -> None:
            self._plans[namespace] = Planned(fault, at, of)
            self._counted[namespace, fault.to] = 0

        self._server.call(put)

    def harm(self, fault: Fault | None) -> None:
        """Harm the first list of each kind from now on, or all watches; None: nothing any more.

        Open watches are ended when a fault of watches begins, so that it harms those that follow.
        """

        def put() -> None:
            self._everywhere = fault
            self._harmed_kinds.clear()
            self._old_until = None
            if fault is not None and fault.to is To.WATCHES:
                self._end_watches()

        self._server.call(put)

    def written_elsewhere(self, namespace: str) -> list[tuple[str, str]]:
        """The writes since `forget` to objects of other namespaces; events come late, and go."""
        return [
            (method, path)
            for method, path in self.written
            if _namespace(path) not in {namespace, ""} and not path.endswith("/events")
        ]

    def spare(self) -> None:
        """Forget all plans: what has not been harmed by now never is."""
        self._server.call(self._plans.clear)

    def forget(self) -> None:
        """Forget all plans, and what was written."""
        self.spare()
        self._server.call(self.written.clear)

    # --- harms to open watches

    def cut(self) -> None:
        """End the watches that are open."""
        self._server.call(self._end_watches)

    def silence(self) -> None:
        """Pass nothing more on by the watches that are open; new ones are let through."""

        def silence_all() -> None:
            for passes in self._open.values():
                passes.clear()

        self._server.call(silence_all)

    def refuse(self, status: int | None, reason: str = "") -> None:
        """End all watches, and answer lists and watches with this error; None: no more."""
        self._refuses = None if status is None else _status(status, reason)
        if status is not None:
            self._server.call(self._end_watches)

    def tell(self, status: int, reason: str) -> None:
        """Send an ERROR event by each open watch, and end it."""
        line = json.dumps({"type": "ERROR", "object": _status(status, reason)}).encode() + b"\n"

        def tell_all() -> None:
            for writer, passes in self._open.items():
                passes.clear()
                writer.write(_chunk(line) + b"0\r\n\r\n")
                writer.write_eof()

        self._server.call(tell_all)

    def close(self) -> None:
        """End all connections, and accept no more."""
        self._server.close()

    # --- in the server's thread

    def _end_watches(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                await self._serve(Request(head, body), writer)
        finally:
            writer.close()

    async def _serve(self, request: Request, writer: asyncio.StreamWriter) -> None:
        fault = self._fault(request)
        if self._refuses is not None and request.to in {To.LISTS, To.WATCHES}:
            writer.write(_rendered(self._refuses))
        elif fault is None:
            await self._forward(request, writer)
        elif fault.harm is Harm.ERROR:
            writer.write(_rendered(_status(fault.status, fault.reason), fault.retry_after_seconds))
        elif request.to is To.WATCHES:
            await self._forward(request, writer, fault)
        elif fault.harm is Harm.OLD:
            writer.write(self._listed[request.listed])
        else:
            async with aclosing(self._pieces(request)) as pieces:
                answer = b"".join([it async for it in pieces])
            if fault.harm is Harm.KILL:
                self.kill()
            elif fault.harm is Harm.ERROR_AFTER:
                writer.write(_rendered(_status(fault.status, fault.reason)))
            else:
                head, _, body = answer.partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
        await writer.drain()

    def _fault(self, request: Request) -> Fault | None:
        """The fault that harms this request, if any."""
        planned, fault = self._plans.get(request.namespace), None
        if planned is not None:
            self._counted[request.namespace, request.to] += 1
            if planned.harms(request, counted=self._counted[request.namespace, request.to]):
                fault = planned.fault
        everywhere = self._everywhere
        if everywhere is not None and everywhere.to is request.to:
            fault = self._of_kind(request, everywhere)
        if fault is not None:
            self.struck[fault.name] += 1
        return fault

    def _of_kind(self, request: Request, fault: Fault) -> Fault | None:
        """A fault of lists or watches: once for each kind, but lines of watches each time."""
        if fault.to is To.WATCHES and fault.harm is not Harm.ERROR:
            return fault
        kind = request.path.partition("?")[0], request.listed[1]
        if kind in self._harmed_kinds or (
            fault.harm is Harm.OLD and request.listed not in self._listed
        ):
            return None
        self._harmed_kinds.add(kind)
        if fault.harm is Harm.OLD and self._old_until is None:
            self._old_until = _now() + LATE_SECONDS
        return fault

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The API server's answer."""
        there, back = await asyncio.open_connection(
            self._host, self._upstream, ssl=self._context, server_hostname=""
        )
        try:
            first, _, rest = request.head.partition(b"\r\n")
            back.write(first + b"\r\nConnection: close\r\n" + rest + request.body)
            piece = await there.read(PIECE_BYTES)
            if request.to is To.WRITES and _SUCCESS.match(piece):
                self.written.append((request.method, request.path))
            while piece:
                yield piece
                piece = await there.read(PIECE_BYTES)
        finally:
            back.transport.abort()

    async def _forward(
        self, request: Request, writer: asyncio.StreamWriter, fault: Fault | None = None
    ) -> None:
        passes = asyncio.Event()
        passes.set()
        if request.to is To.WATCHES:
            self.watches += 1
            self._open[writer] = passes
            if self._old_until is not None:  # an old server knows nothing newer
                await asyncio.sleep(max(0.0, self._old_until - _now()))
        kept = bytearray()
        try:
            async with aclosing(self._pieces(request)) as pieces:
                async for piece in pieces if fault is None else self._harmed(pieces, fault):
                    await passes.wait()
                    if request.to is To.LISTS:
                        kept += piece
                    writer.write(piece)
                    await writer.drain()
        finally:
            self._open.pop(writer, None)
        if request.to is To.LISTS:
            self._listed[request.listed] = bytes(kept)

    async def _harmed(self, pieces: AsyncIterator[bytes], fault: Fault) -> AsyncIterator[bytes]:
        """The lines of a watch: left out, twice, or late, for as long as the fault is there."""
        head, lines, late_until = bytearray(), bytearray(), 0.0
        async for piece in pieces:
            lines += piece
            if not head:
                head, _, lines = lines.partition(b"\r\n\r\n")
                yield bytes(head) + b"\r\n\r\n"
            while (line := _take_line(lines)) is not None:
                self.struck[fault.name] += 1
                if fault.harm is Harm.LATE and _now() > late_until:
                    await asyncio.sleep(LATE_SECONDS)
                    late_until = _now() + LATE_SECONDS  # those that came meanwhile wait no longer
                if fault.harm is not Harm.MISSED:
                    yield _chunk(line)
                if fault.harm is Harm.REPEATED:
                    yield _chunk(line)


def _namespace(path: str) -> str:
    found = _NAMESPACE.search(path)
    return found[1] if found else ""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _take_line(chunks: bytearray) -> bytes | None:
    """The first chunk of a chunked body, which an API server makes of each line; None: no whole."""
    size, found, _ = chunks.partition(b"\r\n")
    if not found:
        return None
    begins, length = len(size) + 2, int(size, 16)
    if not length or len(chunks) < begins + length + 2:
        return None
    line = bytes(chunks[begins : begins + length])
    del chunks[: begins + length + 2]
    return line


def _chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(line), line)


def _status(code: int, reason: str) -> Mapping[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": f"made up: {reason}",
    }


def _rendered(status: Mapping[str, Any], retry_after_seconds: int | None = None) -> bytes:
    body = json.dumps(status).encode()
    after = b"" if retry_after_seconds is None else b"Retry-After: %d\r\n" % retry_after_seconds
    return (
        b"HTTP/1.1 %d Made Up\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b"
        b"Connection: close\r\n\r\n%b" % (status["code"], len(body), after, body)
    )


@contextmanager
def proxied(kubeconfig: Path, folder: Path) -> Iterator[ApiProxy]:
    """A proxy before the API server of a kubeconfig."""
    made = ApiProxy(kubeconfig, folder)
    try:
        yield made
    finally:
        made.close()
