"""Answers out of the bytes of a connection (RFC 9112), parsed by httptools' llhttp."""

from typing import Final

import httptools

from embedding_sidecar import provider

MAX_HEAD_BYTES: Final = 65_536
"""All heads of an answer, 1xx included; several times what providers send."""
MAX_BODY_BYTES: Final = 2**28
"""Above 2,048 vectors of 4,096 numbers in the longest form that JSON has for a float32, which is
some 22 bytes. Either bound is passed by as much as comes in one read at most."""

_LOWEST_FINAL: Final = 200
_FRAMED: Final = frozenset({b"content-length", b"transfer-encoding"})

_Lines = list[tuple[bytes, bytes]]


class Reader:
    """Reads one answer after another.

    `is_reusable` tells, once an answer is whole, whether another one may follow.
    """

    def __init__(self) -> None:
        self.is_reusable = True
        self._answer: provider.HttpAnswer | None = None
        self._bytes = 0
        self._head: _Lines | None = None
        self._lines: _Lines = []
        self._chunks: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        # As aiohttp: old servers do both, and where one answer ends stays as clear.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> provider.HttpAnswer | None:
        """The answer, once it is whole.

        Raises:
            ValueError: it will never be, or is too long; nothing more can be read.
        """
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is None:
                raise ValueError("this is no answer") from error
            self.is_reusable = False
        answer = self._answer
        if answer is not None:
            self._begin()
        elif self._bytes > (MAX_HEAD_BYTES if self._head is None else MAX_BODY_BYTES):
            raise ValueError("the answer is too long")
        return answer

    def end(self) -> provider.HttpAnswer | None:
        """The answer, where the end of the connection is what ends it."""
        if self._head is None or any(name.lower() in _FRAMED for name, _ in self._head):
            return None
        self.is_reusable = False
        return self._whole(self._head)

    def close(self) -> None:
        """Let go of what has been read; nothing more will be."""
        # The parser holds this for its callbacks: only a collection of garbage would part them.
        del self._parser
        self._begin()

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._answer is not None:
            raise ValueError("there are bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailer after a chunked body, which nobody wants."""
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is whole; that of a 1xx only says that the answer is still to come."""
        if self._parser.get_status_code() >= _LOWEST_FINAL:
            self._head = self._lines
        self._lines = []

    def on_body(self, chunk: bytes) -> None:
        """A piece of a body."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        if self._head is not None:
            self.is_reusable = self._parser.should_keep_alive()
            self._answer = self._whole(self._head)

    def _whole(self, head: _Lines) -> provider.HttpAnswer:
        return provider.HttpAnswer(
            status=self._parser.get_status_code(),
            lines=head,
            body=b"".join(self._chunks),
        )

    def _begin(self) -> None:
        self._answer = self._head = None
        self._bytes = 0
        self._lines = []
        self._chunks = []
