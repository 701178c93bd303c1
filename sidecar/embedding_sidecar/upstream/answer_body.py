"""Bodies of providers' answers while they come: decoded, and bounded one by one and together.

Requests ask for `identity`, and some proxies compress all the same (RFC 9110, 8.4). A body is
decoded in pieces of PIECE_BYTES at most, so that a small body cannot become a large one in memory:
its reader gives up an answer that is too long for its request.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from embedding_sidecar import memory_limit
from embedding_sidecar.translation import http_status, provider_api, vector_decoder

MAX_KEPT_BYTES: Final = 65_536
"""Bytes kept of a body without a reader, that of a refusal. The rest of a longer one is ignored."""
PIECE_BYTES: Final = 65_536
SHARE: Final = 4
"""A quarter of all memory: more than the vectors of the large requests that are admitted at once,
which are counted as base64 (decision 017)."""
_NAME: Final = b"content-encoding"
_NAME_BYTES: Final = len(_NAME)
_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_DEFLATED: Final = _GZIP | {"deflate"}
_GZIP_MAGIC: Final = b"\x1f"
_ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32
_RAW: Final = -zlib.MAX_WBITS
"""Deflate without zlib's head, as some servers send it."""


class AnswerBody:
    """The body of one answer: `reader` takes that of a 2xx, the beginning of any other is kept."""

    __slots__ = ("_status", "_taker", "feed", "lines", "reader")

    def __init__(
        self,
        status: int,
        lines: Sequence[tuple[bytes, bytes]],
        reader: vector_decoder.Reader | None,
    ) -> None:
        self.lines = lines
        self._status = status
        self.reader = reader if status < http_status.LOWEST_REDIRECT else None
        """None: no reader holds the body."""
        self._taker = self.reader or _Beginning()
        coding = _coding(lines)
        self.feed = (self._taker if coding is None else Decoder(coding, self._taker)).feed

    @property
    def is_lost(self) -> bool:
        """True if the rest of the body makes no difference."""
        return self._taker.is_lost

    def answer(self) -> provider_api.HttpAnswer:
        """The answer, as far as it has come."""
        kept = b"" if isinstance(self._taker, vector_decoder.Reader) else bytes(self._taker.kept)
        return provider_api.HttpAnswer(self._status, self.lines, kept, self.reader)


class Decoder:
    """Decodes a body for its reader; a body that cannot be decoded is lost."""

    def __init__(self, coding: str, reader: "vector_decoder.Reader | _Beginning") -> None:
        self._reader = reader
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._is_first = coding == "deflate"
        self._is_gzip = coding in _GZIP
        if coding not in _DEFLATED:
            reader.drop()

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk, coded."""
        while chunk and not self._reader.is_lost:
            if self._inflate.eof:
                # A gzip may have several members (RFC 1952, 2.2); other bytes after it are ignored.
                if not self._is_gzip or not chunk.startswith(_GZIP_MAGIC):
                    return
                self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
            try:
                piece = self._inflate.decompress(chunk, PIECE_BYTES)
            except zlib.error:
                if not self._is_first:
                    self._reader.drop()
                    return
                self._inflate, self._is_first = zlib.decompressobj(_RAW), False
                continue
            self._is_first = False
            if piece:
                self._reader.feed(piece)
            chunk = self._inflate.unused_data or self._inflate.unconsumed_tail


class _Beginning:
    def __init__(self) -> None:
        self.kept = bytearray()
        self.is_lost = False

    def feed(self, chunk: bytes) -> None:
        self.kept += chunk[: MAX_KEPT_BYTES - len(self.kept)]
        self.is_lost = len(self.kept) >= MAX_KEPT_BYTES

    def drop(self) -> None:
        self.is_lost = True


class Intake:
    """The bodies that come now, with a bound on what they hold together.

    Each answer is bounded by what its request asked for. If all are longer than they need be, which
    only a hostile or broken server causes, the longest one is given up.
    """

    def __init__(self, memory_bytes: int = memory_limit.DEFAULT_BYTES) -> None:
        self._most_bytes = memory_bytes // SHARE
        self._held: dict[vector_decoder.Reader, int] = {}
        self.held_bytes = 0

    def grew(self, body: vector_decoder.Reader) -> None:
        """A body has grown, and is not complete yet."""
        held_bytes = body.held_bytes
        self.held_bytes += held_bytes - self._held.get(body, 0)
        self._held[body] = held_bytes
        while self.held_bytes > self._most_bytes:
            longest = max(self._held, key=self._held.__getitem__)
            longest.drop()
            self.leave(longest)

    def leave(self, body: vector_decoder.Reader | None) -> None:
        """No more of a body will come, if there is one; a second call changes nothing."""
        if body is not None:
            self.held_bytes -= self._held.pop(body, 0)


def _coding(lines: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The content codings that a head names, in all its lines; None where there is none."""
    found: list[str] = []
    for name, value in lines:
        # This runs for every answer, and few have the header.
        if len(name) == _NAME_BYTES and name.lower() == _NAME:
            each = (word.strip() for word in value.decode("latin-1").lower().split(","))
            found += (word for word in each if word not in _IDENTITY)
    return ", ".join(found) or None
