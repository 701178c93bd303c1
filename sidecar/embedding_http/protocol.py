"""One connection of a client: its requests in order, and a response to each.

A head has so many bytes and so many seconds, and so has whatever else comes while no request is
under way, such as the rest of a body that was refused; so many requests may wait behind one another
(decision 022).
"""

import asyncio
import math
import operator
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from embedding_http.bounds import ORDINARY, Bounds, RefusedRequest, unavailable
from embedding_http.connection_limit import ConnectionLimit
from embedding_http.exchange import Application, Exchange, Scope
from embedding_http.flow import HIGH_WATER_BYTES, Coalesce, Flow
from embedding_http.request_parser import RequestParser


@dataclass(slots=True, kw_only=True, eq=False)
class Listener:
    """What the connections of one listener share."""

    application: Any
    """An Application, or what the listener's own kind of connection asks of it."""
    bounds: Bounds = ORDINARY
    limit: ConnectionLimit = field(default_factory=lambda: ConnectionLimit(sys.maxsize))
    coalesce: Coalesce = operator.call
    """Sends each response now, unless it is another one."""
    connections: set["HttpProtocol"] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    is_ending: bool = False
    """Whether each connection ends with the response to its next request."""


class HttpProtocol(asyncio.Protocol):
    """A connection of this listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.flow: Flow
        self.answering: Exchange | None = None
        """The request whose response is under way."""
        self.address = ""
        """The client's; empty where it has none."""
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._bounds = listener.bounds
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(self, methods=self._bounds.methods)
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        """The request whose head has come whole and whose end has not."""
        self._head_bytes = 0
        self._refusal: RefusedRequest | None = None
        """Of what came behind requests that are to be answered first; nothing is read after it."""
        self.due = math.inf
        """The loop's time until which its next request, or the rest of one, is awaited."""
        self._timer: asyncio.TimerHandle | None = None

    # --- what a listener asks of its connections

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        return self.answering is not None

    @property
    def is_between_requests(self) -> bool:
        """Whether the next byte begins a request, and none is under way."""
        return not (self._parser.in_head or self.answering or self._reading)

    def end_after_last(self) -> None:
        """Let the last request that has come be the last one."""
        last = self._waiting[-1] if self._waiting else self.answering
        if last is not None:
            last.keep_alive = False

    def end(self) -> None:
        """End it now, or behind the last request that has come."""
        self.end_after_last()
        if self.answering is None:
            self.flow.close()

    def cut(self, error: RefusedRequest) -> None:
        """End it now; a client that waits for a response that has not begun hears why."""
        if self.answering is None:
            self.flow.close()
        else:
            self._refuse_now(error)

    def drop(self) -> None:
        """End it at once, with what is still to be sent."""
        self.flow.abort()

    def refuse_connection(self) -> None:
        """Say that there are too many connections, and end it."""
        self._refuse_now(
            unavailable(
                "Too many connections wait for answers here. Close some, or share them.",
                code="too_many_connections",
            )
        )

    # --- asyncio's

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its first request is awaited."""
        self.flow = Flow(transport, self.listener.coalesce)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self.address = self._client[0] if self._client else ""
        self.listener.connections.add(self)
        self._wait_at_most(self._bounds.head_seconds)
        self.listener.limit.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self.listener.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.listener.limit.leave(self)
        if self.answering is not None:
            self.answering.disconnect()
        # The traceback of a refusal holds its connection.
        self.answering = self._reading = self._refusal = None
        self._waiting.clear()
        self._parser.close()
        del self._parser
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head, a body or what is around it."""
        # Few steps: this runs for every request.
        if self._refusal is not None:
            return
        if self._head_bytes + len(data) > self._bounds.head_bytes and self.answering is None:
            # In two steps: a head that does not end within the first is too long.
            rest = self._bounds.head_bytes - self._head_bytes
            self._feed(data[:rest])
            if self.flow.is_closing or self._refusal is not None:
                return
            data = data[rest:]
        self._feed(data)

    def eof_received(self) -> None:
        """The client sends no more, and gets what it has asked for until then."""
        self.flow.flush()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self.flow.resume_writing()

    # --- the parser's

    def head_came(self, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        """Respond, or let the request wait behind others."""
        if self.answering is not None and len(self._waiting) >= self._bounds.pipelined:
            raise RefusedRequest(
                f"More than {self._bounds.pipelined} requests wait on this connection for their "
                "answers."
                if self._bounds.pipelined
                else "Administration answers one request of a connection at a time."
            )
        scope["server"], scope["client"] = self._server, self._client
        self._reading = exchange = Exchange(
            self.flow,
            scope,
            self.responded,
            # A response before the body was asked for leaves open where the next request begins.
            keep_alive=keep_alive and not expects_continue and not self.listener.is_ending,
            expects_continue=expects_continue,
        )
        if self.answering is None:
            self.respond(exchange)
        else:
            self.flow.pause_reading()
            self._waiting.append(exchange)

    def body_came(self, body: bytes) -> None:
        """Keep it for the application, unless nothing will read it."""
        exchange = self._reading
        if exchange is None or exchange.is_complete or self._bounds.methods:
            return
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_BYTES:
            self.flow.pause_reading()
        exchange.tell()

    def request_ended(self, *, keep_alive: bool) -> None:
        """Tell the application that there is no more."""
        exchange, self._reading = self._reading, None
        if exchange is None:
            return
        exchange.more_body = False
        exchange.tell()
        if not keep_alive:
            exchange.keep_alive = False
            if exchange.is_complete:
                self.flow.close()

    # --- responses

    def respond(self, exchange: Exchange) -> None:
        """Begin the response to a request whose head is there."""
        self.respond_in_task(exchange, self.listener.application)

    def respond_in_task(self, exchange: Exchange, application: Application) -> "asyncio.Task[None]":
        """Respond by a task."""
        self.answering = exchange
        task = self._loop.create_task(exchange.run(application))
        self.listener.tasks.add(task)
        task.add_done_callback(self.listener.tasks.discard)
        return task

    def responded(self) -> None:
        """A response has ended; go on with the next request, if it has come already."""
        self.answering = None
        if self.flow.is_closing:
            return
        if self._bounds.methods and self._reading is not None:
            self.flow.close()
            return
        following = self._waiting.popleft() if self._waiting else None
        # While requests wait, the last of them may be long, and each answer would let more come.
        if not self._waiting:
            self.flow.resume_reading()
        if following is not None:
            self.respond(following)
        elif self._refusal is not None:
            self._refuse_now(self._refusal)
        else:
            self._wait(
                self._bounds.head_seconds if self._head_bytes else self._bounds.keep_alive_seconds
            )

    # --- bytes

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        try:
            parser.feed(data)
        except RefusedRequest as error:
            self._refuse(error)
            return
        if parser.in_head:
            self._await_head(len(data))
        elif self.answering is not None:
            self._head_bytes, self.due = 0, math.inf
        elif self._head_bytes:
            self._head_bytes = 0
            self._wait(self._bounds.keep_alive_seconds)
        elif self._reading is not None:
            self._wait_at_most(self._bounds.head_seconds)

    def _await_head(self, size: int) -> None:
        if self.flow.is_closing:
            return
        self._head_bytes += size
        if self._head_bytes >= self._bounds.head_bytes:
            self._refuse(
                RefusedRequest(
                    "The request line and headers are larger than "
                    f"{self._bounds.head_bytes} bytes.",
                    status=431,
                )
            )
        else:
            self._wait_at_most(self._bounds.head_seconds)

    # --- time

    def _wait_at_most(self, seconds: float) -> None:
        if self._loop.time() + seconds < self.due:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self.due = due = self._loop.time() + seconds
        # One that comes too early looks again: most are not needed by then.
        if self._timer is None or self._timer.when() > due:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.answering is not None or self.flow.is_closing:
            self.due = math.inf
            return
        left = self.due - self._loop.time()
        if left > 0:
            self._set_timer(left)
        elif self._head_bytes == 0:
            self.flow.close()
        else:
            self._refuse(
                RefusedRequest(
                    f"The headers did not arrive within {self._bounds.head_seconds:.0f} s.",
                    status=408,
                )
            )

    # --- refusals

    def _refuse(self, error: RefusedRequest) -> None:
        """Answer what is no request, or one that is not to be read, and end the connection.

        What came before it is answered first, as answers come in the order of requests; but an
        answer that has begun may be one without end.
        """
        reading, answering = self._reading, self.answering
        if answering is None or answering is reading or answering.is_started:
            self._refuse_now(error)
            return
        if reading is not None:
            self._waiting.pop()
        self._refusal = error

    def _refuse_now(self, error: RefusedRequest) -> None:
        begun = self.answering is not None and self.answering.is_started
        if self.answering is not None:
            self.answering.disconnect()
        # A second head would be read as a part of the answer that has begun; and the rest of a
        # request that has had its answer gets none.
        if not begun and not (self._reading is not None and self._reading.is_complete):
            self.flow.write(error.response())
        self.flow.close()


def _address(found: Any) -> tuple[str, int] | None:
    """Host and port, of what a socket says of itself."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple | list) else None
