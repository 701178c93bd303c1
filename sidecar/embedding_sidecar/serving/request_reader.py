"""Requests out of the bytes of a connection: uvicorn's protocol, with a bound on all but bodies.

uvicorn keeps the lines after a chunked body among the headers, and takes the body of a request that
offers an upgrade for the next request. Here a head has so many lines; what frames a body (sizes of
chunks, their extensions, trailers) is counted and dropped; an upgrade is ignored, as RFC 9110,
section 7.8, says; and so many requests may wait behind one another (decision 022).
"""

import http
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embedding_sidecar import errors

MAX_HEADERS: Final = 128
"""Lines of a head; the SDKs send 15. aiohttp and Envoy allow about as many."""
MAX_FRAMING_BYTES: Final = 16_384
"""Of what frames a body and is none: trailers, extensions of chunks. Node allows as much."""
FRAMED_BYTES: Final = 16
"""Bytes of framing that each byte of a body pays for: in chunks of one byte it takes five."""
MAX_PIPELINED: Final = 64
"""Requests that wait behind the one under way: each is held parsed."""
_OF_AN_UPGRADE: Final = frozenset({b"upgrade", b"http2-settings"})
"""Headers, and options of Connection, that offer one. RFC 9110, 7.8; RFC 7540, 3.2.1."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Where trailers go."""

    def append(self, line: tuple[bytes, bytes], /) -> None:
        """Keep nothing."""


_DROPPED: Final = _Dropped()


class RequestReader(HttpToolsProtocol):
    """Reads requests; what is wrong with one is refused by `_refuse`, which ends the connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_body = False
        """Whether the head of a request has come whole and its end has not."""
        self._framing_bytes = self._body_bytes = 0
        """Of the body that is under way, beyond what it pays for; of bodies, in what comes now."""
        self._has_begun = False
        """Whether a request begins in what comes now."""
        self._offered: bytes | None = None
        """The head of a request that offers an upgrade, as it would be without."""

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head, a body or what is around it."""
        # Few steps: this runs for every request.
        self._has_begun, self._body_bytes = False, 0
        offers = None
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                offers = upgrade
            # Not while it is handled, or it would take the place of what a refusal says.
            if offers is not None:
                self._read_without_upgrades(data, offers)
        except httptools.HttpParserError as error:
            refused = error.__context__
            self._refuse(
                refused
                if isinstance(refused, errors.Refused)
                else errors.Rejected("Invalid HTTP request received.")
            )
            return
        if self._in_body:
            self._count_framing(len(data))
        elif self.headers and len(self.headers) > MAX_HEADERS:
            self._refuse(_too_many_headers())

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise errors.Rejected(
                f"More than {MAX_PIPELINED} requests wait on this connection for their answers."
            )
        super().on_message_begin()
        self._has_begun = True
        self._in_body = False
        self._framing_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailers after a chunked body, which nobody wants."""
        # As uvicorn's, and not a call to it: this runs for every line.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is whole; one that offers an upgrade is read again without the offer."""
        # Not counted line by line, which would be the most of reading one: a read holds few enough.
        if len(self.headers) > MAX_HEADERS:
            raise _too_many_headers()
        if self.parser.should_upgrade():
            self._offered = self._without_upgrade()
            return
        # Who speaks HTTP/1.0 does not know 100 (RFC 9110, 10.1.1).
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        self.headers = _DROPPED
        self._in_body = True
        if self.expect_100_continue:
            # An answer before the body was asked for leaves open where the next request begins.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of a body; nobody reads it any more once the request is answered."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._offered is not None:
            return
        self._in_body = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if cycle.keep_alive and not self.parser.should_keep_alive():
            # A trailer has said that the connection ends, and so the parser reads no more.
            cycle.keep_alive = False
            if cycle.response_complete:
                self.transport.close()

    def _read_without_upgrades(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Read again what a head that offers an upgrade stands in; raises HttpParserError."""
        parts: list[bytes | memoryview] = [memoryview(data)[upgrade.args[0] :], self._take_offer()]
        while parts:
            part = parts.pop()
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as another:
                parts += (memoryview(part)[another.args[0] :], self._take_offer())

    def _take_offer(self) -> bytes:
        # The parser takes the rest for another protocol, and reads no more at all where the head
        # also ends the connection.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        head, self._offered = self._offered or b"", None
        return head

    def _without_upgrade(self) -> bytes:
        """The head that has just come, without what offers an upgrade."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise errors.Rejected("This is no proxy: CONNECT is not allowed.")
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
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
                errors.Rejected(
                    f"The trailers or chunk extensions of the body are larger than "
                    f"{MAX_FRAMING_BYTES} bytes."
                )
            )

    def _refuse(self, error: errors.Refused) -> None:
        """Answer what is no request, or one that is not to be read, and end the connection."""
        raise NotImplementedError


def _too_many_headers() -> errors.Rejected:
    return errors.Rejected(
        f"The request has more than {MAX_HEADERS} headers.",
        status=http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    )
