"""Parses requests from the bytes of a connection, by httptools; all parts but bodies are bounded.

The framing of a body (chunk sizes, chunk extensions, trailers) is counted and dropped; trailers do
not become headers. An upgrade is ignored, as RFC 9110, section 7.8, allows.
"""

from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote

import httptools

from embedding_http.bounds import FRAMED_BYTES, MAX_FRAMING_BYTES, MAX_HEADERS, RefusedRequest

_NO_HTTP: Final = "Invalid HTTP request received."
_MAX_NAME: Final = 256
_OF_AN_UPGRADE: Final = frozenset({b"upgrade", b"http2-settings"})
"""Headers, and options of Connection, that offer an upgrade. RFC 9110, 7.8; RFC 7540, 3.2.1."""


class Sink(Protocol):
    """Receives the parts of requests; it may raise RefusedRequest."""

    def head_came(self, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool) -> None:
        """A head is complete; `scope` is ASGI's, without `client` and `server`."""

    def body_came(self, body: bytes) -> None:
        """A piece of a body has come."""

    def request_ended(self, *, keep_alive: bool) -> None:
        """A request is complete; without `keep_alive` it is the connection's last."""


class RequestParser:
    """Parses the requests of one connection; with `methods`, no others are allowed."""

    def __init__(self, sink: Sink, *, methods: tuple[str, ...]) -> None:
        self._sink = sink
        self._methods = methods
        self._parser = self._made()
        self.in_head = self.in_body = False
        """`in_head`: a head has begun and has not ended; `in_body`: a request's end is to come."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._offered: bytes | None = None
        """The head of a request that offers an upgrade, with the offer left out."""
        self._framing_bytes = self._body_bytes = 0
        """Framing of the body under way beyond its allowance; bytes of bodies in the data fed."""
        self._has_begun = False
        """True if a request begins in the data fed."""

    def feed(self, data: bytes) -> None:
        """Take bytes of a head, of a body or of its framing.

        Raises:
            RefusedRequest: the bytes are invalid, or the request may not be read; feed no more.
        """
        self._has_begun, self._body_bytes = False, 0
        offers = None
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                offers = upgrade
            # Not within `except`: the upgrade would replace a refusal as the error's context.
            if offers is not None:
                self._read_without_upgrades(data, offers)
        except httptools.HttpParserError as error:
            refused = error.__context__
            try:
                if isinstance(refused, RefusedRequest):
                    raise refused from None
                raise RefusedRequest(_NO_HTTP) from None
            finally:
                # Its traceback refers to this frame: the cycle would keep the sink alive.
                del refused
        if self.in_body:
            self._count_framing(len(data))
        elif self.in_head and len(self._headers) > MAX_HEADERS:
            _refuse_many_headers()

    def close(self) -> None:
        """Parse nothing more, and break the reference cycle of parser and sink."""
        self._parser = None

    # --- httptools calls these

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._headers = b"", []
        self._has_begun = self.in_head = True
        self._expects_continue = False
        self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailers after a chunked body, which are dropped."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete; one that offers an upgrade is parsed again without the offer."""
        parser = self._parser
        method = parser.get_method().decode("ascii")
        if self._methods and method not in self._methods:
            asked = self._url.partition(b"?")[0].decode("latin-1")[:_MAX_NAME]
            raise RefusedRequest(
                f"{method} is not allowed on {asked}.",
                status=405,
                lines=f"allow: {', '.join(self._methods)}\r\n".encode(),
            )
        # Not counted line by line, which would be most of a head's cost: a read holds few enough.
        if len(self._headers) > MAX_HEADERS:
            _refuse_many_headers()
        if parser.should_upgrade():
            self._offered = self._without_upgrade()
            return
        url = httptools.parse_url(self._url)
        if (raw_path := url.path) is None:
            raise RefusedRequest(_NO_HTTP)
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "scheme": "http",
            "root_path": "",
            "method": method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        # Trailers get a list of their own, which is dropped.
        self._headers, self.in_head, self.in_body = [], False, True
        is_old = version == "1.0"
        # HTTP/1.0 has no 100 Continue (RFC 9110, 10.1.1).
        self._sink.head_came(
            scope,
            keep_alive=not is_old and parser.should_keep_alive(),
            expects_continue=self._expects_continue and not is_old,
        )

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._body_bytes += len(body)
        self._sink.body_came(body)

    def on_message_complete(self) -> None:
        """A request is complete; a trailer may have said that the connection ends."""
        if self._offered is None:
            self.in_body = False
            self._sink.request_ended(keep_alive=self._parser.should_keep_alive())

    # ---

    def _made(self) -> Any:
        made = httptools.HttpRequestParser(self)
        # Otherwise it reads nothing after a request that ends the connection.
        made.set_dangerous_leniencies(lenient_data_after_close=True)
        return made

    def _read_without_upgrades(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Parse the head again without its offer, and the rest; raises HttpParserError."""
        parts: list[bytes | memoryview] = [memoryview(data)[upgrade.args[0] :], self._take_offer()]
        while parts:
            part = parts.pop()
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade as another:
                parts += (memoryview(part)[another.args[0] :], self._take_offer())

    def _take_offer(self) -> bytes:
        # A new parser: the old one takes the rest for another protocol, and reads no more at all
        # if the head also ends the connection.
        self._parser = self._made()
        head, self._offered = self._offered or b"", None
        return head

    def _without_upgrade(self) -> bytes:
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
        """Count the framing in bytes that have come while a body is under way."""
        if self._has_begun:
            # Heads came in the same bytes; they have their own bounds.
            return
        framing = self._framing_bytes + size - self._body_bytes * (1 + FRAMED_BYTES)
        self._framing_bytes = max(framing, 0)
        if framing > MAX_FRAMING_BYTES:
            raise RefusedRequest(
                f"The trailers or chunk extensions of the body are larger than "
                f"{MAX_FRAMING_BYTES} bytes."
            )


def _refuse_many_headers() -> NoReturn:
    raise RefusedRequest(f"The request has more than {MAX_HEADERS} headers.", status=431)
