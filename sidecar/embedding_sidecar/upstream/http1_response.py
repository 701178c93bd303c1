"""Parses answers from the bytes of a connection (RFC 9112), by httptools' llhttp."""

from typing import Final

import httptools

from embedding_http.bounds import FRAMED_BYTES, MAX_FRAMING_BYTES
from embedding_sidecar.translation import provider_api, vector_decoder
from embedding_sidecar.upstream.answer_body import AnswerBody

MAX_HEAD_BYTES: Final = 65_536
"""All heads of an answer, 1xx included; several times what providers send. This bound and those of
framing may be exceeded by the bytes of one read."""
MAX_HEADERS: Final = 256
"""Header lines of all heads of an answer."""
MAX_INTERIM: Final = 16
"""1xx heads before the answer; the requests that are sent here ask for none."""

_LOWEST_FINAL: Final = 200
_FRAMED: Final = frozenset({b"content-length", b"transfer-encoding"})


class Reader:
    """Reads one answer after another.

    `is_reusable`, once an answer is complete: another one may follow.
    """

    def __init__(self) -> None:
        self.is_reusable = True
        self.body: vector_decoder.Reader | None = None
        """The reader of a 2xx's body; None: as much of the body is kept as of a refusal."""
        self._coming: AnswerBody | None = None
        """The body of an answer whose head is complete."""
        self._answer: provider_api.HttpAnswer | None = None
        self._framing_bytes = self._body_bytes = self._interim = 0
        self._lines: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        # The same as aiohttp: old servers do both, and the end of an answer stays as clear.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> provider_api.HttpAnswer | None:
        """The answer, once it is complete, or all of it that makes a difference has come.

        Raises:
            ValueError: it is invalid or too long; nothing more can be read.
        """
        framing, self._body_bytes = self._framing_bytes + len(data), 0
        has_head = self._coming is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is None:
                own = error.__context__
                raise ValueError(own if isinstance(own, ValueError) else "no answer") from error
            self.is_reusable = False
        answer = self._answer
        if answer is None and self._coming is not None:
            if self._coming.is_lost:
                self.is_reusable = False
                answer = self._coming.answer()
            elif has_head:
                framing -= self._body_bytes * (1 + FRAMED_BYTES)
            else:
                framing = 0
        if answer is not None:
            self._begin()
            return answer
        self._framing_bytes = max(framing, 0)
        if self._framing_bytes > (MAX_HEAD_BYTES if self._coming is None else MAX_FRAMING_BYTES):
            raise ValueError("the answer is too long")
        return None

    def end(self) -> provider_api.HttpAnswer | None:
        """The answer, if the end of the connection is what ends it."""
        coming = self._coming
        if coming is None or any(name.lower() in _FRAMED for name, _ in coming.lines):
            return None
        self.is_reusable = False
        return coming.answer()

    def close(self) -> None:
        """Release what has been read; nothing more will be read."""
        # The parser refers to this for its callbacks: only the garbage collector would free both.
        del self._parser
        self._begin()

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._answer is not None:
            raise ValueError("there are bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailer after a chunked body, which is dropped."""
        if self._coming is not None:
            return
        if len(self._lines) >= MAX_HEADERS:
            raise ValueError("the answer is too long: it has too many headers")
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete; after that of a 1xx the answer is still to come."""
        status = self._parser.get_status_code()
        if status >= _LOWEST_FINAL:
            self._coming = AnswerBody(status, self._lines, self.body)
        else:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ValueError("the answer is too long: it has too many heads")
        self._lines = []

    def on_body(self, chunk: bytes) -> None:
        """A piece of a body."""
        self._body_bytes += len(chunk)
        if self._coming is not None:
            self._coming.feed(chunk)

    def on_message_complete(self) -> None:
        """An answer is complete."""
        if self._coming is not None:
            self.is_reusable = self._parser.should_keep_alive()
            self._answer = self._coming.answer()

    def _begin(self) -> None:
        self._answer = self._coming = self.body = None
        self._framing_bytes = self._interim = 0
        self._lines = []
