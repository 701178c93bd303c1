"""The HTTP/1.1 server of the admission webhook, over TLS and bounded in all that it accepts.

Any pod of the cluster may connect, unless client certificates are required. So connections, heads,
bodies and time are bounded. When a bound is reached, a connection of the address that has most is
closed. Processor time is shared among addresses; with client certificates, when all requests come
from API servers, it is shared among the namespaces that the reviews are about.
"""

import asyncio
import logging
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h11

from embedding_contract import sockets
from embedding_operator.queues.fair_lock import FairLock

_LOG = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 256
HEAD_BYTES: Final = 16_384
BODY_BYTES: Final = 1024**2
"""An AdmissionReview with a pod; etcd takes no object of more than 1.5 MiB, and pods have a few
KiB."""
BODIES_BYTES: Final = 16 * 1024**2
"""All bodies not answered yet; more ends the longest one of the address that has most."""
HANDSHAKE_SECONDS: Final = 3.0
REQUEST_SECONDS: Final = 3.0
"""To read a whole request, and to write its answer; the API server waits no longer."""
IDLE_SECONDS: Final = 90.0
"""The time that Go's client keeps an idle connection."""
FILES_SECONDS: Final = 10.0
START_SECONDS: Final = 0.5
_READ_BYTES: Final = 16_384
_PAUSE_SECONDS: Final = 0.1
_LAST_SECONDS: Final = 1.0
_LAST_PAUSE_SECONDS: Final = 0.01

About = Callable[[bytes], str]
"""Returns the party that a body is about, as any string; raises nothing."""
Answer = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Returns status and JSON body for the path and the body of a POST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """PEM files. With `client_ca`, clients must have a certificate of that authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def are_there(self) -> bool:
        """True when all of them exist."""
        paths = (self.certificate, self.key, self.client_ca)
        return all(path.exists() for path in paths if path is not None)

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """Inode, modification time and size of each, which change when a file is written."""
        paths = (self.certificate, self.key, self.client_ca)
        found = (path.stat() for path in paths if path is not None)
        return tuple((it.st_ino, it.st_mtime_ns, it.st_size) for it in found)

    def context(self) -> ssl.SSLContext:
        """The TLS context of a new connection.

        Raises:
            OSError: a file cannot be read or is not valid (ssl.SSLError).
        """
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            made.load_verify_locations(self.client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


@dataclass(eq=False, slots=True)
class _Connection:
    """One accepted connection; `used_at` is its last answer, at first its start.

    It is quiet while nothing has arrived since that answer.
    """

    address: str
    used_at: float
    accepted: socket.socket
    is_of_use: bool = False
    is_quiet: bool = False
    body_bytes: int = 0
    task: asyncio.Task[None] | None = None


class _Protocol(asyncio.StreamReaderProtocol):
    """Notes at once that something has arrived: its reader's task runs later."""

    def __init__(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        super().__init__(reader)
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        self._connection.is_quiet = False
        super().data_received(data)


class _RefusedError(Exception):
    """Refuses a request with this status, and closes the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server:
    """Listens on a port of all addresses. Files that change are read again.

    `about` is called where clients prove that they are API servers, `listens` once connections are
    accepted. While `is_ending`, each answer closes its connection: the client's next one may lead
    to another replica. A cancelled server first answers what has arrived: an API server sends a
    review once, and creates a pod without its sidecar if the connection ends then.
    """

    def __init__(
        self,
        *,
        port: int,
        files: Files,
        answer: Answer,
        about: About,
        listens: Callable[[], None] = lambda: None,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._port = port
        self._files = files
        self._answer = answer
        self._about = about
        self._listens = listens
        self._is_ending = is_ending
        self._accepts = True
        self._connections: dict[_Connection, None] = {}
        self._lock = FairLock()

    async def run(self) -> None:
        """Listen and answer, until cancelled."""
        loop = asyncio.get_running_loop()
        state, context = self._files.state(), self._files.context()
        checked = loop.time()
        with sockets.listen_on_all(self._port) as listener:
            listener.setblocking(False)  # noqa: FBT003 - its parameter has no name
            self._listens()
            try:
                while True:
                    accepted, peer = await _accept(listener)
                    if loop.time() - checked >= FILES_SECONDS:
                        checked = loop.time()
                        state, context = self._renewed(state, context)
                    self._evict()
                    connection = _Connection(
                        address=str(peer[0]), used_at=loop.time(), accepted=accepted
                    )
                    self._connections[connection] = None
                    connection.task = loop.create_task(self._serve(connection, context))
            finally:
                self._accepts = False
                listener.close()
                await self._end_all()

    async def _end_all(self) -> None:
        """End the quiet connections, and the others once they are quiet or their time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_SECONDS
        try:
            while self._connections and loop.time() < until:
                for connection in list(self._connections):
                    if connection.is_quiet and not _has_arrived(connection.accepted):
                        self._end(connection)
                await asyncio.sleep(_LAST_PAUSE_SECONDS)
        finally:
            for connection in list(self._connections):
                self._end(connection)

    def _renewed(
        self, state: tuple[tuple[int, int, int], ...], context: ssl.SSLContext
    ) -> tuple[tuple[tuple[int, int, int], ...], ssl.SSLContext]:
        try:
            found = self._files.state()
            if found != state:
                return found, self._files.context()
        except OSError as error:  # half written: a later connection reads again
            _LOG.warning("the webhook's certificate cannot be read: %s", error)
        return state, context

    def _evict(self) -> None:
        """If there are too many connections, end one of the address that has most.

        First one that never got an answer, else the one that got its last answer first.
        """
        if len(self._connections) >= MOST_CONNECTIONS:
            count = Counter(it.address for it in self._connections)
            [(address, _)] = count.most_common(1)
            among = (it for it in self._connections if it.address == address)
            self._end(min(among, key=lambda it: (it.is_of_use, it.used_at)))

    def _hold(self, connection: _Connection, body_bytes: int) -> None:
        """Count the bytes of a body; over the limit end the longest of the address with most bytes.

        That may be this connection, which is cancelled where it next waits.
        """
        connection.body_bytes = body_bytes
        while sum(it.body_bytes for it in self._connections) > BODIES_BYTES:
            held: Counter[str] = Counter()
            for it in self._connections:
                held[it.address] += it.body_bytes
            [(address, _)] = held.most_common(1)
            among = (it for it in self._connections if it.address == address)
            self._end(max(among, key=lambda it: it.body_bytes))

    def _end(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        if connection.task is not None:
            connection.task.cancel()

    async def _serve(self, connection: _Connection, context: ssl.SSLContext) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await _encrypted(connection, context)
            await self._requests(connection, reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, EOFError):
            pass  # ssl.SSLError is an OSError; bad clients get no log line each
        finally:
            self._connections.pop(connection, None)
            connection.accepted.close()
            if writer is not None:
                writer.transport.abort()

    async def _requests(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        while True:
            if not parser.trailing_data[0]:
                wait_seconds = IDLE_SECONDS if connection.is_of_use else REQUEST_SECONDS
                async with asyncio.timeout(wait_seconds):
                    parser.receive_data(await reader.read(_READ_BYTES))
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    status, body = await self._request(connection, parser, reader)
                except (_RefusedError, h11.RemoteProtocolError) as error:
                    status = error.status if isinstance(error, _RefusedError) else 400
                    await _write(writer, parser, status=status, body=b"", closing=True)
                    return
            async with asyncio.timeout(REQUEST_SECONDS):
                closing = self._is_ending() or not self._accepts
                await _write(writer, parser, status=status, body=body, closing=closing)
            connection.is_of_use, connection.used_at = True, loop.time()
            if parser.our_state is not h11.DONE:
                return  # MUST_CLOSE: the client keeps no connection
            parser.start_next_cycle()
            connection.is_quiet = not parser.trailing_data[0]

    async def _request(
        self, connection: _Connection, parser: h11.Connection, reader: asyncio.StreamReader
    ) -> tuple[int, bytes]:
        """Read one request and answer it."""
        head = await _event(parser, reader)
        if not isinstance(head, h11.Request):
            raise EOFError  # noqa: TRY004 - not its type: the connection has ended
        if head.method != b"POST":
            raise _RefusedError(405)
        length = _length(head)
        body = bytearray()
        try:
            while isinstance(event := await _event(parser, reader), h11.Data):
                if len(body) + len(event.data) > length:
                    raise _RefusedError(413)
                body += event.data
                self._hold(connection, len(body))
            path = head.target.partition(b"?")[0].decode("ascii", "replace")
            asked = bytes(body)
            # Only an API server is believed about the namespace in a body.
            is_proven = self._files.client_ca is not None
            party = self._about(asked) if is_proven else connection.address
            async with self._lock.hold(party):
                started = time.monotonic()
                try:
                    return await self._answer(path, asked)
                finally:
                    self._lock.spent(party, time.monotonic() - started)
        finally:
            connection.body_bytes = 0


def _length(head: h11.Request) -> int:
    """The limit for the body: its content-length, else BODY_BYTES."""
    headers = dict(head.headers)
    if b"transfer-encoding" in headers:
        return BODY_BYTES
    length = int(headers.get(b"content-length", b"0"))  # h11 has checked that it is a number
    if length > BODY_BYTES:
        raise _RefusedError(413)
    return length


async def _event(parser: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := parser.next_event()) is h11.NEED_DATA:
        if parser.they_are_waiting_for_100_continue:
            raise _RefusedError(417)
        parser.receive_data(await reader.read(_READ_BYTES))
    return event


async def _write(
    writer: asyncio.StreamWriter,
    parser: h11.Connection,
    *,
    status: int,
    body: bytes,
    closing: bool,
) -> None:
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    headers += [("connection", "close")] if closing else []
    if parser.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return
    events = (
        h11.Response(status_code=status, headers=headers),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
    writer.write(b"".join(parser.send(event) or b"" for event in events))
    await writer.drain()


async def _accept(listener: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    while True:
        try:
            return await asyncio.get_running_loop().sock_accept(listener)
        except OSError:  # no descriptor left, or the peer has gone already
            await asyncio.sleep(_PAUSE_SECONDS)


def _has_arrived(accepted: socket.socket) -> bool:
    """True when bytes, or an end, can be read that the event loop has not read yet.

    Also of a socket that asyncio has closed, after a reset: its task ends some iterations later.
    """
    if accepted.fileno() < 0:
        return True
    asked = select.poll()
    asked.register(accepted, select.POLLIN)
    return bool(asked.poll(0))


async def _encrypted(
    connection: _Connection, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_BYTES, loop=loop)
    protocol = _Protocol(reader, connection)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol,
        connection.accepted,
        ssl=context,
        ssl_handshake_timeout=HANDSHAKE_SECONDS,
        ssl_shutdown_timeout=HANDSHAKE_SECONDS,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
