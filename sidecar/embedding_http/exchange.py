"""One request of a connection and the response to it, as ASGI has them."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from embedding_http.flow import STATUS_LINES, Flow, Reply

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Reply | None]]
"""An ASGI application; a Reply that it returns is written as its response."""

_NO_NAME: Final = re.compile(b'[\x00-\x1f\x7f()<>@,;:\\[\\]={} \t\\\\"]')
_NO_VALUE: Final = re.compile(b"[\x00-\x08\x0a-\x1f\x7f]")
_WITHOUT_BODY: Final = frozenset({204, 304})
_FAILED: Final = Reply(
    500,
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n",
    b"Internal Server Error",
)

_log = logging.getLogger(__name__)


class Exchange:
    """A request, as far as it was received, and its response, as far as it was sent."""

    def __init__(
        self,
        flow: Flow,
        scope: Scope,
        on_complete: Callable[[], None],
        *,
        keep_alive: bool,
        expects_continue: bool = False,
    ) -> None:
        self._flow = flow
        self._on_complete = on_complete
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        """True if the client sends no body before it gets 100 Continue."""
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.is_started = self.is_complete = False
        """`is_started`: the response has begun; `is_complete`: it has ended."""
        self._news: asyncio.Event | None = None
        self._chunked = False
        self._left: int | None = 0
        """Bytes of Content-Length still to be sent; None: the body ends with the connection."""

    def tell(self) -> None:
        """Wake `receive`: something has come, or has ended."""
        if self._news is not None:
            self._news.set()

    def disconnect(self) -> None:
        """No client waits for the response any more."""
        self.disconnected = True
        self.tell()

    def reply(self, reply: Reply) -> None:
        """Write the whole response."""
        self.is_started = True
        if self.scope["method"] == "HEAD":
            # The client would read a body as the next response.
            reply = reply._replace(body=b"")
        self._flow.reply(reply, is_last=not self.keep_alive)
        self._end()

    async def run(self, application: Application) -> None:
        """Run the application, and respond in its place if it fails to."""
        try:
            reply = await application(self.scope, self.receive, self.send)
            if reply is not None and self._flow.write_paused and not self.disconnected:
                await self._flow.drain()
        except asyncio.CancelledError:
            if not self.disconnected:
                self._flow.close()
            raise
        except Exception:  # noqa: BLE001 - the client gets an error, the log its cause
            _log.exception("a request failed")
            reply, self.keep_alive = _FAILED, False
        if self.disconnected or self.is_complete:
            return
        if self.is_started:
            # The response ends in the middle, and so does the connection.
            self._flow.close()
        elif reply is None:
            _log.error("a request has no response")
            self.keep_alive = False
            self.reply(_FAILED)
        else:
            self.reply(reply)

    async def receive(self) -> Message:
        """ASGI's: the body received since the last call, or that the client is gone."""
        if self.expects_continue and not self._flow.is_closing:
            self._flow.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expects_continue = False
        if self._news is None:
            self._news = asyncio.Event()
            if self.body or not self.more_body:
                self._news.set()
        if not (self.disconnected or self.is_complete):
            self._flow.resume_reading()
            await self._news.wait()
            self._news.clear()
        if self.disconnected or self.is_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """ASGI's: the head of the response, or a piece of its body.

        Raises:
            RuntimeError: the message is out of order, or does not fit the response's head.
        """
        if not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.is_started else "http.response.start"
        if self.is_complete or message["type"] != expected:
            raise RuntimeError(f"{message['type']} cannot come here")
        if self.is_started:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._send_head(message["status"], message.get("headers", ()))

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [STATUS_LINES[status]]
        is_last = is_told = False
        for name, value in headers:
            if _NO_NAME.search(name) or _NO_VALUE.search(value):
                raise RuntimeError("a header of the response cannot be sent")
            lower = name.lower()
            if lower == b"content-length" and not is_told:
                self._left, is_told = int(value), True
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                self._chunked = is_told = True
            elif lower == b"connection" and b"close" in value.lower().replace(b" ", b"").split(
                b","
            ):
                self.keep_alive, is_last = False, True
            lines += (lower, b": ", value, b"\r\n")
        if not self.keep_alive and not is_last:
            lines.append(b"connection: close\r\n")
        if self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY and not is_told:
            if self.scope["http_version"] == "1.0":
                # HTTP/1.0 has no chunks (RFC 9112, 6.1): the end of the connection ends the body.
                self._left = None
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        self.is_started, self.expects_continue = True, False
        self._flow.write(b"".join([*lines, b"\r\n"]))

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self._left = 0
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._flow.write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0:
                    raise RuntimeError("the response is longer than its Content-Length")
            self._flow.write(body)
        if more:
            return
        if self._left:
            raise RuntimeError("the response is shorter than its Content-Length")
        if not self.keep_alive:
            self._flow.close()
        self._end()

    def _end(self) -> None:
        self.is_complete = True
        self.tell()
        self._on_complete()
