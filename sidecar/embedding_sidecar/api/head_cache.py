"""Heads of requests that were parsed before, known again by their bytes.

An application sends the same head over and over: only the length of the body is another one. What
the parser said of a head once, it would say again, so a request that comes whole and whose head is
known need not be parsed. Whatever differs by a byte is not known, and is the parser's.
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
"""Of the same, however it is capitalised."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_DIGITS: Final = 8
_ANY_LENGTH: Final = b"\0"
"""Stands for the digits. No head holds it: the parser lets no NUL through."""


class Known(NamedTuple):
    """What a head says, and the ASGI scope of the request that had it first."""

    head: Head
    scope: Scope

    def __repr__(self) -> str:
        """Without the headers: one of them is the caller's key."""
        return "<a known head>"


class HeadCache:
    """What heads say, by their bytes without the digits of Content-Length."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Known] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> tuple[Known, bytes] | None:
        """Head and body, if the data is one request, whole and alone, whose head is known."""
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        start, stop = _digits(data, end)
        known = self._heads.get(data[:start] + _ANY_LENGTH + data[stop:end])
        if known is None:
            return None
        digits = data[start:stop]
        # Longer ones would be numbers that only the parser knows the end of.
        if not digits.isdigit() or len(digits) > _MAX_DIGITS or int(digits) != len(data) - end:
            return None
        return known, data[end:]

    def learn(self, data: bytes, known: Known, *, body: bytes) -> None:
        """Know this head again, which the parser found at the beginning of the data.

        The caller vouches that the connection is kept after it and that nobody waits to be asked
        for the body. Nothing is learned where the body's length is not told in the usual way.
        """
        end = len(data) - len(body)
        start, stop = _digits(data, end)
        line = data.rfind(b"\n", 0, start) + 1
        told = data[line:start].lower() == _LENGTH and data[start:stop] == b"%d" % len(body)
        # Of a header in several lines a Head has one text, with commas.
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
    """Where the length stands in a head that ends there, if it is told in the usual way."""
    start = data.find(_END_OF_NAME, 0, end) + len(_END_OF_NAME)
    return start, data.find(b"\r", start, end)
