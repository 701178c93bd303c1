"""Answers to HTTP/1.0: the end of the connection is the end of a body whose length is not told.

uvicorn sends such a body in chunks, which nobody may do who answers HTTP/1.0 (RFC 9112, 6.1):
nginx speaks it to what it stands in front of, unless it is told otherwise.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def without_chunks(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """The application, for the one request of this cycle, which ends its connection."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_told = True

        async def send_plain(message: Message) -> None:
            nonlocal is_told
            if message["type"] == "http.response.start":
                is_told = any(name == b"content-length" for name, _ in message["headers"])
                if not is_told:
                    cycle.chunked_encoding = False
            elif not is_told:
                # uvicorn holds a body against what was told.
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return answer
