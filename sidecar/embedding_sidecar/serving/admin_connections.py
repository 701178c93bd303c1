"""One connection to administration, which anyone who reaches the pod's address can open.

Nothing is held for it that a scrape, a probe or a page does not need: heads are small and soon
there, a body is never kept, only GET and HEAD are answered, one at a time, and the connection ends
with an answer whose request is not whole.
"""

import http
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.serving import connections
from embedding_sidecar.wire import wire

MAX_HEAD_BYTES: Final = 16_384
"""Prometheus and kubelet send 300; what a proxy in front of them adds is a few times that."""
HEAD_SECONDS: Final = 5.0
METHODS: Final = (b"GET", b"HEAD")


class AdminConnection(connections.Connection):
    """A connection to administration."""

    max_head_bytes = MAX_HEAD_BYTES

    @property
    def head_seconds(self) -> float:
        """The longest that a head may take."""
        return HEAD_SECONDS

    def on_message_begin(self) -> None:
        """A request begins, which none does while another one is under way."""
        if self.is_answering:
            raise errors.Rejected("Administration answers one request of a connection at a time.")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole, and asks to read something."""
        method = self.parser.get_method()
        if method not in METHODS:
            path = self.url.partition(b"?")[0].decode("latin-1")[: wire.MAX_NAME]
            raise errors.Rejected(
                f"{method.decode('ascii')} is not allowed on {path}.",
                status=http.HTTPStatus.METHOD_NOT_ALLOWED,
            )
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body, which nobody wants."""
        self._body_bytes += len(body)

    def on_response_complete(self) -> None:
        """Keep the connection, unless the request is not whole."""
        if self._in_body and not self.transport.is_closing():
            self.transport.close()
        super().on_response_complete()

    def refusal_lines(self, status: http.HTTPStatus) -> bytes:
        """What is allowed, where something is not."""
        return b"allow: GET, HEAD\r\n" if status == http.HTTPStatus.METHOD_NOT_ALLOWED else b""
