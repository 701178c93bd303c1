"""A long answer, made while it is sent, so that it is never held whole."""

import asyncio
from collections.abc import Iterator
from typing import Final, NamedTuple

from starlette.types import Send

from embedding_http.flow import pairs
from embedding_sidecar.api import byte_budget

SLOW_READER_SECONDS: Final = 5.0
"""Time after which an unread answer releases its byte budget. Otherwise a caller that asks for many
answers and reads one after the other would wait for itself."""
WHOLE_BYTES: Final = 2**20
"""A longer answer goes out in pieces."""


class StreamedResponse(NamedTuple):
    """An answer whose body is made while it is sent; `head` has no Content-Length."""

    head: bytes
    body: Iterator[bytes]


async def send_all(
    answer: StreamedResponse, send: Send, reservation: byte_budget.ByteReservation
) -> None:
    """Send one piece after the other, each when the one before it has been sent."""
    leaving = asyncio.get_running_loop().call_later(SLOW_READER_SECONDS, reservation.close)
    try:
        await send({"type": "http.response.start", "status": 200, "headers": pairs(answer.head)})
        for piece in answer.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            # A piece takes a millisecond or more to make: other tasks run in between.
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
    finally:
        leaving.cancel()
