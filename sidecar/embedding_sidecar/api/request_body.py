"""Reads a request's body, and refuses it on the way if it is too long or too slow."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from starlette.types import Receive

from embedding_sidecar import errors
from embedding_sidecar.openai_format import openai_json

BODY_SECONDS: Final = 30


async def read(receive: Receive, *, most: int = openai_json.MAX_BODY_BYTES) -> bytes:
    """The whole body.

    Raises:
        errors.Rejected: it is longer than `most` bytes (413), did not come within BODY_SECONDS
            (408), or its caller went away (499).
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _gone()
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise openai_json.too_large(most)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise errors.Rejected(
            f"The body did not arrive within {BODY_SECONDS} s.", status=408
        ) from None


async def while_there(receive: Receive, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait, after the whole body has come, as long as the caller stays.

    Raises:
        errors.Rejected: the caller went away (499).
    """
    wait, leave = asyncio.ensure_future(waiting), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((wait, leave), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise _gone()
        wait.result()
    finally:
        wait.cancel()
        leave.cancel()


async def _left(receive: Receive) -> None:
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()


def _gone() -> errors.Rejected:
    return errors.Rejected("The caller went away.", status=499)
