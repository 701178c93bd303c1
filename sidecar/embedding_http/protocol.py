"""One connection of a client: requests out of its bytes, in order, and a response to each.

httptools parses. A head has so many bytes, lines and seconds; what frames a body (sizes of chunks,
their extensions, trailers) is counted and dropped; an upgrade is ignored, as RFC 9110, section 7.8,
says; so many requests may wait behind one another, and what comes while none is under way, such as
the rest of a body that was refused, has its time (decision 022).
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import httptools

from embedding_http.bounds import (
    FRAMED_BYTES,
    MAX_FRAMING_BYTES,
    MAX_HEADERS,
    ORDINARY,
    Bounds,
    RefusedRequest,
)
from embedding_http.connection_limit import ConnectionLimit
from embedding_http.exchange import Application, Exchange
from embedding_http.flow import HIGH_WATER_BYTES, Coalesce, Flow

_OF_AN_UPGRADE: Final = frozenset({b"upgrade", b"http2-settings"})
"""Headers, and options of Connection, that offer one. RFC 9110, 7.8; RFC 7540, 3.2.1."""
_NO_HTTP: Final = "Invalid HTTP request received."
_MAX_NAME: Final = 256


def at_once(send: Callable[[], object]) -> None:
    """Send it now."""
    send()


@dataclass(slots=True, kw_only=True, eq=False)
class Listener:
    """What the connections of one listener share."""

    application: Any
    """An Application, or what the listener's own kind of connection asks of it."""
    bounds: Bounds = ORDINARY
    limit: ConnectionLimit | None = None
    coalesce: Coalesce = at_once
    connections: set["HttpProtocol"] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    is_ending: bool = False
    """Whether each connection ends with the response to its next request."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Where trailers go."""

    def append(self, line: tuple[bytes, bytes], /) -> None:
        """Keep nothing."""


_DROPPED: Final = _Dropped()


class HttpProtocol(asyncio.Protocol):
    """A connection of this listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.flow: Flow
        self.answering: Exchange | None = None
        """The request whose response is under way."""
        self.client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._bounds = listener.bounds
        self._loop = asyncio.get_running_loop()
        self._parser = _parser(self)
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        """The request whose head has come whole and whose end has not."""
        self._in_head = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._offered: bytes | None = None
        """The head of a request that offers an upgrade, as it would be without."""
        self._head_bytes = 0
        self._framing_bytes = self._body_bytes = 0
        """Of the body that is under way, beyond what it pays for; of bodies, in what comes now."""
        self._has_begun = False
        """Whether a request begins in what comes now."""
        self._refusal: RefusedRequest | None = None
        """Of what came behind requests that are to be answered first; nothing is read after it."""
        self._due = math.inf
        """When the loop's time says that this was waited for long enough."""
        self._timer: asyncio.TimerHandle | None = None

    # --- what a listener asks of its connections

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        return self.answering is not None

    @property
    def address(self) -> str:
        """The client's; empty where it has none."""
        return "" if self.client is None else self.client[0]

    @property
    def due(self) -> float:
        """The loop's time until which its next request, or the rest of one, is awaited."""
        return self._due

    @property
    def is_between_requests(self) -> bool:
        """Whether the next byte begins a request, and none is under way."""
        return not (self._in_head or self.answering or self._reading)

    def end_after_last(self) -> None:
        """Let the last request that has come be the last one."""
        last = self._waiting[-1] if self._waiting else self.answering
        if last is not None:
            last.keep_alive = False

    def end(self) -> None:
        """End it now, or behind the last request that has come."""
        self.end_after_last()
        if self.answering is None:
            self.flow.close()

    def cut(self, error: RefusedRequest) -> None:
        """End it now; a client that waits for a response that has not begun hears why."""
        if self.answering is None:
            self.flow.close()
        else:
            self._refuse_now(error)

    def drop(self) -> None:
        """End it at once, with what is still to be sent."""
        self.flow.abort()

    def turn_away(self) -> None:
        """Say that there are too many connections, and end it."""
        self._refuse_now(
            RefusedRequest(
                "Too many connections wait for answers of this sidecar. Close some, or share them.",
                status=503,
                code="too_many_connections",
            )
        )

    # --- asyncio's

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its first request is awaited."""
        self.flow = Flow(transport, self.listener.coalesce)
        self._server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.listener.connections.add(self)
        self._wait_at_most(self._bounds.head_seconds)
        if self.listener.limit is not None:
            self.listener.limit.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self.listener.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.listener.limit is not None:
            self.listener.limit.leave(self)
        if self.answering is not None:
            self.answering.disconnect()
        self.answering = self._reading = self._parser = None
        self._waiting.clear()
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head, a body or what is around it."""
        # Few steps: this runs for every request.
        if self._refusal is not None:
            return
        if self._head_bytes + len(data) > self._bounds.head_bytes and self.answering is None:
            # In two steps: a head that does not end within the first is too long.
            rest = self._bounds.head_bytes - self._head_bytes
            self._feed(data[:rest])
            if self.flow.is_closing:
                return
            data = data[rest:]
        self._feed(data)

    def eof_received(self) -> None:
        """The client sends no more, and gets what it has asked for until then."""
        self.flow.flush()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self.flow.resume_writing()

    # --- the parser's

    def on_message_begin(self) -> None:
        """A request begins."""
        if self.answering is not None and len(self._waiting) >= self._bounds.pipelined:
            raise RefusedRequest(
                f"More than {self._bounds.pipelined} requests wait on this connection for their "
                "answers."
                if self._bounds.pipelined
                else "Administration answers one request of a connection at a time."
            )
        self._url, self._headers = b"", []
        self._has_begun = self._in_head = True
        self._expects_continue = False
        self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailers after a chunked body, which nobody wants."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is whole; one that offers an upgrade is read again without the offer."""
        # Not counted line by line, which would be the most of reading one: a read holds few enough.
        if len(self._headers) > MAX_HEADERS:
            _refuse_many_headers()
        parser = self._parser
        if parser.should_upgrade():
            self._offered = self._without_upgrade()
            return
        method = parser.get_method().decode("ascii")
        if self._bounds.methods and method not in self._bounds.methods:
            asked = self._url.partition(b"?")[0].decode("latin-1")[:_MAX_NAME]
            raise RefusedRequest(
                f"{method} is not allowed on {asked}.",
                status=405,
                lines=f"allow: {', '.join(self._bounds.methods)}\r\n".encode(),
            )
        url = httptools.parse_url(self._url)
        if (raw_path := url.path) is None:
            raise RefusedRequest(_NO_HTTP)
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        # HTTP/1.0 has no 100 (RFC 9110, 10.1.1).
        expects = self._expects_continue and version != "1.0"
        self._reading = exchange = Exchange(
            self.flow,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": version,
                "server": self._server,
                "client": self.client,
                "scheme": "http",
                "root_path": "",
                "method": method,
                "path": unquote(path) if "%" in path else path,
                "raw_path": raw_path,
                "query_string": url.query or b"",
                "headers": self._headers,
            },
            self.responded,
            # A response before the body was asked for leaves open where the next request begins.
            keep_alive=version != "1.0"
            and not expects
            and not self.listener.is_ending
            and parser.should_keep_alive(),
            expects_continue=expects,
        )
        self._headers, self._in_head = _DROPPED, False
        if self.answering is None:
            self.respond(exchange)
        else:
            self.flow.pause_reading()
            self._waiting.append(exchange)

    def on_body(self, body: bytes) -> None:
        """A piece of a body; nobody reads it any more once the request is answered."""
        self._body_bytes += len(body)
        exchange = self._reading
        if exchange is None or exchange.is_complete or self._bounds.methods:
            return
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_BYTES:
            self.flow.pause_reading()
        exchange.tell()

    def on_message_complete(self) -> None:
        """A request is whole."""
        exchange = self._reading
        if self._offered is not None or exchange is None:
            return
        self._reading = None
        exchange.more_body = False
        exchange.tell()
        if exchange.keep_alive and not self._parser.should_keep_alive():
            # A trailer has said that the connection ends, and so the parser reads no more.
            exchange.keep_alive = False
            if exchange.is_complete:
                self.flow.close()

    # --- responses

    def respond(self, exchange: Exchange) -> None:
        """Begin the response to a request whose head is there."""
        self.begin(exchange, self.listener.application)

    def begin(self, exchange: Exchange, application: Application) -> "asyncio.Task[None]":
        """Respond by a task."""
        self.answering = exchange
        task = self._loop.create_task(exchange.run(application))
        self.listener.tasks.add(task)
        task.add_done_callback(self.listener.tasks.discard)
        return task

    def responded(self) -> None:
        """A response has ended; go on with the next request, if it has come already."""
        self.answering = None
        if self.flow.is_closing:
            return
        if self._bounds.methods and self._reading is not None:
            self.flow.close()
            return
        following = self._waiting.popleft() if self._waiting else None
        # While requests wait, the last of them may be long, and each answer would let more come.
        if not self._waiting:
            self.flow.resume_reading()
        if following is not None:
            self.respond(following)
        elif self._refusal is not None:
            self._refuse_now(self._refusal)
        else:
            self._wait(
                self._bounds.head_seconds if self._head_bytes else self._bounds.keep_alive_seconds
            )

    # --- bytes

    def _feed(self, data: bytes) -> None:
        self._has_begun, self._body_bytes = False, 0
        offers = None
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                offers = upgrade
            # Not while it is handled, or it would take the place of what a refusal says.
            if offers is not None:
                self._read_without_upgrades(data, offers)
            elif self._in_head and len(self._headers) > MAX_HEADERS:
                _refuse_many_headers()
        except (httptools.HttpParserError, RefusedRequest) as error:
            refused = error if isinstance(error, RefusedRequest) else error.__context__
            self._refuse(
                refused if isinstance(refused, RefusedRequest) else RefusedRequest(_NO_HTTP)
            )
            return
        if self._reading is not None:
            self._count_framing(len(data))
        if self._in_head:
            self._await_head(len(data))
        elif self.answering is not None:
            self._head_bytes, self._due = 0, math.inf
        elif self._head_bytes:
            self._head_bytes = 0
            self._wait(self._bounds.keep_alive_seconds)
        elif self._reading is not None:
            self._wait_at_most(self._bounds.head_seconds)

    def _read_without_upgrades(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Read again what a head that offers an upgrade stands in; raises HttpParserError."""
        parts: list[bytes | memoryview] = [memoryview(data)[upgrade.args[0] :], self._take_offer()]
        while parts:
            part = parts.pop()
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade as another:
                parts += (memoryview(part)[another.args[0] :], self._take_offer())

    def _take_offer(self) -> bytes:
        # The parser takes the rest for another protocol, and reads no more at all where the head
        # also ends the connection.
        self._parser = _parser(self)
        head, self._offered = self._offered or b"", None
        return head

    def _without_upgrade(self) -> bytes:
        """The head that has just come, without what offers an upgrade."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise RefusedRequest("This is no proxy: CONNECT is not allowed.")
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self._url, version)]
        for name, value in self._headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                kept = [option for option in options if option.lower() not in _OF_AN_UPGRADE]
                lines += [b"connection: " + b", ".join(kept)] if kept else []
            elif name not in _OF_AN_UPGRADE:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _count_framing(self, size: int) -> None:
        """Of bytes that have come while a body is under way, count those that are none of it."""
        if self._has_begun:
            # Heads came with it; they have their own bounds.
            return
        framing = self._framing_bytes + size - self._body_bytes * (1 + FRAMED_BYTES)
        self._framing_bytes = max(framing, 0)
        if framing > MAX_FRAMING_BYTES:
            self._refuse(
                RefusedRequest(
                    f"The trailers or chunk extensions of the body are larger than "
                    f"{MAX_FRAMING_BYTES} bytes."
                )
            )

    def _await_head(self, size: int) -> None:
        if self.flow.is_closing:
            return
        self._head_bytes += size
        if self._head_bytes >= self._bounds.head_bytes:
            self._refuse(
                RefusedRequest(
                    "The request line and headers are larger than "
                    f"{self._bounds.head_bytes} bytes.",
                    status=431,
                )
            )
        else:
            self._wait_at_most(self._bounds.head_seconds)

    # --- time

    def _wait_at_most(self, seconds: float) -> None:
        if self._loop.time() + seconds < self._due:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._due = due = self._loop.time() + seconds
        # One that comes too early looks again: most are not needed by then.
        if self._timer is None or self._timer.when() > due:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.answering is not None or self.flow.is_closing:
            self._due = math.inf
            return
        left = self._due - self._loop.time()
        if left > 0:
            self._set_timer(left)
        elif self._head_bytes == 0:
            self.flow.close()
        else:
            self._refuse(
                RefusedRequest(
                    f"The headers did not arrive within {self._bounds.head_seconds:.0f} s.",
                    status=408,
                )
            )

    # --- refusals

    def _refuse(self, error: RefusedRequest) -> None:
        """Answer what is no request, or one that is not to be read, and end the connection.

        What came before it is answered first, as answers come in the order of requests; but an
        answer that has begun may be one without end.
        """
        reading, answering = self._reading, self.answering
        if answering is None or answering is reading or answering.is_started:
            self._refuse_now(error)
            return
        if reading is not None:
            self._waiting.pop()
        self._refusal = error

    def _refuse_now(self, error: RefusedRequest) -> None:
        begun = self.answering is not None and self.answering.is_started
        if self.answering is not None:
            self.answering.disconnect()
        # A second head would be read as a part of the answer that has begun; and the rest of a
        # request that has had its answer gets none.
        if not begun and not (self._reading is not None and self._reading.is_complete):
            self.flow.write(error.response())
        self.flow.close()


def _parser(connection: HttpProtocol) -> Any:
    made = httptools.HttpRequestParser(connection)
    # Else it reads nothing behind a request that ends the connection.
    made.set_dangerous_leniencies(lenient_data_after_close=True)
    return made


def _refuse_many_headers() -> NoReturn:
    raise RefusedRequest(f"The request has more than {MAX_HEADERS} headers.", status=431)


def _address(found: Any) -> tuple[str, int] | None:
    """Host and port, of what a socket says of itself."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple | list) else None
