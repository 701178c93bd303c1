"""One connection of a client: uvicorn's, with bounds on what comes before a request.

uvicorn bounds neither the size of a head nor the time it takes when httptools parses it. Here a
head has so many bytes and so many seconds, and so has whatever else comes while no request is under
way, such as the rest of a body that was refused. What comes with a request is `request_reader`'s.
"""

import asyncio
import http
import math
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from embedding_sidecar import errors
from embedding_sidecar.serving import http10
from embedding_sidecar.serving.connection_limit import ConnectionLimit
from embedding_sidecar.serving.request_reader import RequestReader
from embedding_sidecar.wire import wire

MAX_HEAD_BYTES: Final = 65_536
"""What uvicorn allows with its other parser, h11."""
HEAD_SECONDS: Final = 30.0
KEEP_ALIVE_SECONDS: Final = 120.0
"""Longer than clients keep idle connections (Go 90 s, aiohttp 15 s, httpx 5 s), so that they close
them and no request meets a connection that is just being closed here."""


class Connection(RequestReader):
    """A connection; whatever it refuses itself has OpenAI's error form."""

    max_head_bytes = MAX_HEAD_BYTES

    def __init__(self, *arguments: Any, limit: ConnectionLimit | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limit = limit
        self._head_bytes = 0
        self._due = math.inf
        """When the loop's time says that this was waited for long enough."""
        self._timer: asyncio.TimerHandle | None = None
        self._answered: RequestResponseCycle | None = None
        """The last request whose answer was begun; `cycle` may be one that comes after it."""
        self._refusal: errors.Refused | None = None
        """Of what came behind requests that are to be answered first; nothing is read after it."""

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def address(self) -> str:
        """The client's; empty where it has none."""
        return "" if self.client is None else self.client[0]

    @property
    def due(self) -> float:
        """The loop's time until which its next request, or the rest of one, is awaited."""
        return self._due

    @property
    def head_seconds(self) -> float:
        """The longest that a head may take."""
        return HEAD_SECONDS

    def refusal_lines(self, status: http.HTTPStatus) -> bytes:
        """Header lines of a refusal of its own, beside those that all have."""
        del status
        return b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its first request is awaited."""
        super().connection_made(transport)
        self._wait_at_most(self.head_seconds)
        if self._limit is not None:
            self._limit.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._limit is not None:
            self._limit.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head or a body."""
        # Few steps: this runs for every request.
        if self._refusal is not None:
            return
        if self._head_bytes + len(data) > self.max_head_bytes and not self.is_answering:
            # In two steps: a head that does not end within the first is too long.
            room = self.max_head_bytes - self._head_bytes
            self.data_received(data[:room])
            if self.transport.is_closing():
                return
            data = data[room:]
        super().data_received(data)
        if self.scope is None or "method" not in self.scope:
            self._await_head(len(data))
        elif self.is_answering:
            self._head_bytes, self._due = 0, math.inf
        elif self._head_bytes:
            self._head_bytes = 0
            self._await_request()
        elif self.cycle is not None and self.cycle.more_body:
            self._wait_at_most(self.head_seconds)

    def on_response_complete(self) -> None:
        """Go on with the next request, if it has come already."""
        # Not uvicorn's, which sets a timer for every answer and takes it back for every request.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        pipeline = self.pipeline
        following = pipeline.pop() if pipeline else None
        # While requests wait, the last of them may be long, and each answer would let more come.
        if not pipeline and self.flow.read_paused:
            self.flow.resume_reading()
        if following is not None:
            self._start_asgi_task(*following)
        elif self._refusal is not None:
            self._refuse_now(self._refusal)
        else:
            self._await_request()

    def close_after_answer(self) -> None:
        """Let the request under way be the last one."""
        if self.is_answering:
            self.cycle.keep_alive = False

    def cut(self, error: errors.Refused) -> None:
        """End it now; who waits for an answer that has not begun hears why."""
        if not self.is_answering:
            self.transport.close()
            return
        self.cycle.disconnected = True
        self._refuse_now(error)

    def drop(self) -> None:
        """End it at once, with what is still to be sent."""
        self.transport.abort()

    def turn_away(self) -> None:
        """Say that there are too many connections, and end it."""
        self._refuse(
            errors.Unavailable(
                "Too many connections wait for answers of this sidecar. Close some, or share them.",
                code="too_many_connections",
                retry_after_seconds=1,
            )
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if cycle.scope["http_version"] == "1.0":
            app = http10.without_chunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _await_head(self, size: int) -> None:
        if self.transport.is_closing():
            return
        self._head_bytes += size
        if self._head_bytes >= self.max_head_bytes:
            self._refuse(
                errors.Rejected(
                    f"The request line and headers are larger than {self.max_head_bytes} bytes.",
                    status=http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                )
            )
        else:
            self._wait_at_most(self.head_seconds)

    def _await_request(self) -> None:
        self._wait(self.head_seconds if self._head_bytes else KEEP_ALIVE_SECONDS)

    def _wait_at_most(self, seconds: float) -> None:
        if self.loop.time() + seconds < self._due:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._due = due = self.loop.time() + seconds
        # One that comes too early looks again: most are not needed by then.
        if self._timer is None or self._timer.when() > due:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.is_answering or self.transport.is_closing():
            self._due = math.inf
            return
        left = self._due - self.loop.time()
        if left > 0:
            self._set_timer(left)
        elif self._head_bytes == 0:
            self.transport.close()
        else:
            self._refuse(
                errors.Rejected(
                    f"The headers did not arrive within {self.head_seconds:.0f} s.",
                    status=http.HTTPStatus.REQUEST_TIMEOUT,
                )
            )

    def _refuse(self, error: errors.Refused) -> None:
        """Answer what is no request, or one that is not to be read, and end the connection.

        What came before it is answered first, as answers come in the order of requests; but an
        answer that has begun may be one without end.
        """
        waits = self._in_body and self.pipeline and self.pipeline[0][0] is self.cycle
        if self._begun or not (waits or (self.is_answering and not self._in_body)):
            self._refuse_now(error)
            return
        if waits:
            self.pipeline.popleft()
        self._refusal = error

    @property
    def _begun(self) -> RequestResponseCycle | None:
        """The request whose answer has begun and has not ended."""
        answered = self._answered
        if answered is None or answered.response_complete or not answered.response_started:
            return None
        return answered

    def _refuse_now(self, error: errors.Refused) -> None:
        begun = self._begun
        if begun is not None:
            # A second head would be read as a part of the answer that has begun.
            begun.disconnected = True
            self.transport.close()
            return
        if self._in_body and self.cycle.response_complete:
            # What is wrong is the rest of a request that has had its answer.
            self.transport.close()
            return
        body = wire.render_error(error)
        status = http.HTTPStatus(error.status)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"%s"
            b"connection: close\r\n\r\n"
            b"%s" % (status, status.phrase.encode(), len(body), self.refusal_lines(status), body)
        )
        self.transport.close()
