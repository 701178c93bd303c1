"""Heads of requests that were parsed before, recognised by their bytes.

An application sends the same head over and over: only the length of the body differs. The parser
would read the same from it again, so a complete request whose head is known need not be parsed. A
head that differs by a byte is not known, and is parsed.
"""

from typing import Final, NamedTuple

from starlette.types import Scope

from embedding_sidecar.openai_format.request_headers import Head

MAX_HEADS: Final = 256
MAX_HEAD_BYTES: Final = 4096
MAX_HEADERS: Final = 32
"""Together three megabytes at most; the SDKs' heads have 600 bytes and 15 headers."""
_LENGTH: Final = b"content-length: "
_END_OF_NAME: Final = b"ength: "
"""The end of the same name, which `Content-Length` has too."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_DIGITS: Final = 8
_ANY_LENGTH: Final = b"\0"
"""Stands for the digits. No head holds it: the parser lets no NUL through."""


class Known(NamedTuple):
    """The values of a head, and the ASGI scope of the request that had it first."""

    head: Head
    scope: Scope

    def __repr__(self) -> str:
        """Without the headers: one of them is the caller's key."""
        return "<a known head>"


class HeadCache:
    """Known heads, by their bytes without the digits of Content-Length."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Known] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> tuple[Known, bytes] | None:
        """Head and body, if the data is exactly one complete request, whose head is known."""
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        start, stop = _digits(data, end)
        known = self._heads.get(data[:start] + _ANY_LENGTH + data[stop:end])
        if known is None:
            return None
        digits = data[start:stop]
        # Longer numbers are left to the parser.
        if not digits.isdigit() or len(digits) > _MAX_DIGITS or int(digits) != len(data) - end:
            return None
        return known, data[end:]

    def learn(self, data: bytes, known: Known, *, body: bytes) -> None:
        """Remember this head, which the parser found at the beginning of the data.

        The caller ensures that the connection is kept after it and that its client does not wait
        for 100 Continue. Nothing is learned if the body's length is not given in the usual way.
        """
        end = len(data) - len(body)
        start, stop = _digits(data, end)
        line = data.rfind(b"\n", 0, start) + 1
        told = data[line:start].lower() == _LENGTH and data[start:stop] == b"%d" % len(body)
        # A Head joins the lines of a repeated header with commas.
        if not told or known.head.content_length != str(len(body)) or end > MAX_HEAD_BYTES:
            return
        if data[end:] != body or data.find(_END_OF_HEAD) + len(_END_OF_HEAD) != end:
            return
        if len(known.scope["headers"]) > MAX_HEADERS:
            return
        if len(self._heads) == MAX_HEADS:
            self._heads.clear()
        headers = [pair for pair in known.scope["headers"] if pair[0] != b"content-length"]
        self._heads[data[:start] + _ANY_LENGTH + data[stop:end]] = Known(
            known.head._replace(content_length=None), {**known.scope, "headers": headers}
        )


def _digits(data: bytes, end: int) -> tuple[int, int]:
    """The place of the length in a head that ends there, if it is given in the usual way."""
    start = data.find(_END_OF_NAME, 0, end) + len(_END_OF_NAME)
    return start, data.find(b"\r", start, end)
