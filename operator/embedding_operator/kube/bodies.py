"""The bodies of the API server's answers: in pieces as they come, or whole within a time."""

import time
from collections.abc import Iterator
from typing import Any, Final

import urllib3

PIECE_BYTES: Final = 65_536
_WHOLE_PIECE_BYTES: Final = 1024 * 1024
STREAM_TIMED_OUT: Final = "StreamTimedOut"
"""The reason of a stream that was open and sent nothing for its time-out."""


class Body:
    """The body of a list or a watch."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        """The pieces, as they come."""
        # A chunk is passed on as it comes, not when a piece is full.
        return iter(self._answer.stream(PIECE_BYTES, decode_content=False))

    def wait_at_most(self, seconds: float) -> None:
        """Change the read time-out of the stream.

        Without effect after `Connection: close`, which API servers send as they shut down:
        http.client has let go of the socket then.
        """
        socket = getattr(self._answer.connection, "sock", None)
        if socket is not None:
            socket.settimeout(seconds)


def whole(response: urllib3.BaseHTTPResponse, *, ends_at: float) -> bytes:
    """A whole body; the time-out of urllib3 is for each of its pieces.

    Raises:
        urllib3.exceptions.TimeoutError: the body is not over at `ends_at`, of the monotonic clock.
    """
    raw = bytearray()
    while piece := response.read1(_WHOLE_PIECE_BYTES):
        raw += piece
        if time.monotonic() > ends_at:
            response.close()
            raise urllib3.exceptions.TimeoutError
    response.release_conn()
    return bytes(raw)
