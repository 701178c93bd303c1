"""Undoes a content coding that was not asked for (RFC 9110, 8.4), within the reader's bounds.

Requests ask for `identity`, and some proxies compress all the same. A body is decoded in pieces of
PIECE_BYTES at most, so that a small body cannot become a large one in memory: the reader gives up
an answer that is too long for its request.
"""

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from embedding_sidecar.translation import provider_api

PIECE_BYTES: Final = 65_536
_NAME: Final = b"content-encoding"
_NAME_BYTES: Final = len(_NAME)
_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_DEFLATED: Final = _GZIP | {"deflate"}
_GZIP_MAGIC: Final = b"\x1f"
_ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32
_RAW: Final = -zlib.MAX_WBITS
"""Deflate without zlib's head, as some servers send it."""


class Decoder:
    """Decodes the body of one answer for its reader; a body that cannot be decoded is lost."""

    def __init__(self, coding: str, reader: "provider_api.Body | Beginning") -> None:
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


class Beginning:
    """Keeps the beginning of a body; once `is_lost`, the rest makes no difference."""

    def __init__(self, most_bytes: int) -> None:
        self.kept = bytearray()
        self._most_bytes = most_bytes
        self._is_dropped = False

    @property
    def is_lost(self) -> bool:
        """True once no more is kept."""
        return self._is_dropped or len(self.kept) >= self._most_bytes

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self.kept += chunk[: self._most_bytes - len(self.kept)]

    def drop(self) -> None:
        """Keep no more."""
        self._is_dropped = True


def coding(lines: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The content codings that a head names, in all its lines; None where there is none."""
    found: list[str] = []
    for name, value in lines:
        # This runs for every answer, and few have the header.
        if len(name) == _NAME_BYTES and name.lower() == _NAME:
            each = (word.strip() for word in value.decode("latin-1").lower().split(","))
            found += (word for word in each if word not in _IDENTITY)
    return ", ".join(found) or None
