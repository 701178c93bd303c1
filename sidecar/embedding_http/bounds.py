"""Bounds of what a connection may send, and for how long, and the refusal of what exceeds them."""

import http
import json
from dataclasses import dataclass
from typing import Final

MAX_HEADERS: Final = 128
"""Header lines; the SDKs send 15. aiohttp and Envoy allow about as many."""
MAX_FRAMING_BYTES: Final = 16_384
"""Bytes that frame a body, such as trailers and chunk extensions. Node allows as many."""
FRAMED_BYTES: Final = 16
"""Bytes of framing allowed for each byte of a body; a chunk of one byte takes five."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of one listener.

    Up to `pipelined` parsed requests may wait behind the one under way. With `methods` no other
    method is answered, no body is kept, and a response sent before its request is complete ends
    the connection.
    """

    head_bytes: int = 65_536
    head_seconds: float = 30.0
    keep_alive_seconds: float = 120.0
    """Longer than clients keep idle connections (Go 90 s, aiohttp 15 s, httpx 5 s), so that
    clients close them and no request arrives on a connection that is just being closed here."""
    pipelined: int = 64
    methods: tuple[str, ...] = ()


ORDINARY: Final = Bounds()


class RefusedRequest(Exception):  # noqa: N818 - it is an answer, and is raised on the way to it
    """A refusal in OpenAI's error form, which ends the connection; `lines` are header lines."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, lines: bytes = b""
    ) -> None:
        super().__init__(message)
        self.status = http.HTTPStatus(status)
        self.message = message
        self.code = code
        self.lines = lines

    def response(self) -> bytes:
        """The whole response."""
        error = {
            "message": self.message,
            "type": "server_error"
            if self.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
            else "invalid_request_error",
            "param": None,
            "code": self.code,
        }
        body = json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False).encode()
        return (
            b"HTTP/1.1 %d %s\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"%s"
            b"connection: close\r\n\r\n"
            b"%s" % (self.status, self.status.phrase.encode(), len(body), self.lines, body)
        )


def unavailable(message: str, *, code: str) -> RefusedRequest:
    """The refusal of a request that may be retried later."""
    return RefusedRequest(message, status=503, code=code)
