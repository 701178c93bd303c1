"""One connection of a client: its requests in order, and a response to each.

Bounds hold for the bytes and the seconds of a head, and of anything else that comes while no
request is under way, such as the rest of a refused body, and for the number of requests that may
wait behind one another (decision 022).
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
    """The state that the connections of one listener share."""

    application: Any
    """An Application, or the object that the listener's own protocol class calls instead."""
    bounds: Bounds = ORDINARY
    limit: ConnectionLimit = field(default_factory=lambda: ConnectionLimit(sys.maxsize))
    coalesce: Coalesce = operator.call
    """By default each response is sent at once."""
    connections: set["HttpProtocol"] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    is_ending: bool = False
    """True if each connection ends with the response to its next request."""


class HttpProtocol(asyncio.Protocol):
    """A connection of this listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.flow: Flow
        self.answering: Exchange | None = None
        """The request whose response is under way."""
        self.address = ""
        """The client's address; empty if it has none."""
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._bounds = listener.bounds
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(self, methods=self._bounds.methods)
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        """The request whose head is complete and whose end is still to come."""
        self._head_bytes = 0
        self._refusal: RefusedRequest | None = None
        """The refusal to send once earlier requests are answered; nothing is read after it."""
        self.due = math.inf
        """The deadline, in the loop's time, for its next request or the rest of one."""
        self._timer: asyncio.TimerHandle | None = None

    # --- called by the listener

    @property
    def is_answering(self) -> bool:
        """True if a request is under way."""
        return self.answering is not None

    @property
    def is_between_requests(self) -> bool:
        """True if the next byte begins a request, and none is under way."""
        return not (self._parser.in_head or self.answering or self._reading)

    def end_after_last(self) -> None:
        """Close it after the response to the last request received, if there is one."""
        last = self._waiting[-1] if self._waiting else self.answering
        if last is not None:
            last.keep_alive = False

    def end(self) -> None:
        """Close it now, or after the response to the last request received."""
        self.end_after_last()
        if self.answering is None:
            self.flow.close()

    def cut(self, error: RefusedRequest) -> None:
        """Close it now; a client whose response has not begun gets the error."""
        if self.answering is None:
            self.flow.close()
        else:
            self._refuse_now(error)

    def drop(self) -> None:
        """Close it at once; unsent bytes are lost."""
        self.flow.abort()

    def refuse_connection(self) -> None:
        """Respond that there are too many connections, and close it."""
        self._refuse_now(
            unavailable(
                "Too many connections wait for answers here. Close some, or share them.",
                code="too_many_connections",
            )
        )

    # --- called by asyncio

    # asyncio's signature has the base class; a TCP socket's is always a Transport.
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
        # The traceback of a refusal refers to its connection.
        self.answering = self._reading = self._refusal = None
        self._waiting.clear()
        self._parser.close()
        del self._parser
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head, of a body or of its framing."""
        # Few steps: this runs for every request.
        if self._refusal is not None:
            return
        if self._head_bytes + len(data) > self._bounds.head_bytes and self.answering is None:
            # In two steps: a head that does not end within the first one is too long.
            rest = self._bounds.head_bytes - self._head_bytes
            self._feed(data[:rest])
            if self.flow.is_closing or self._refusal is not None:
                return
            data = data[rest:]
        self._feed(data)

    def eof_received(self) -> None:
        """The client sends no more; write the responses that are ready."""
        self.flow.flush()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.flow.resume_writing()

    # --- called by the parser

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
            # After a response before 100 Continue, the start of the next request is unclear.
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
        """Notify the application that the request is complete."""
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
        """Begin the response to a request whose head is complete."""
        self.respond_in_task(exchange, self.listener.application)

    def respond_in_task(self, exchange: Exchange, application: Application) -> "asyncio.Task[None]":
        """Respond in a task."""
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
        # No reading while requests wait: the last may be long, and each response would let in more.
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
        # A timer that fires too early is set again: most are no longer needed by then.
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
        """Refuse invalid bytes, or a request that may not be read, and end the connection.

        Earlier requests are answered first, as responses keep the order of requests, unless a
        response has begun: it may never end.
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
        # A second head would be read as a part of the response that has begun; and the rest of a
        # request that was answered already gets no response.
        if not begun and not (self._reading is not None and self._reading.is_complete):
            self.flow.write(error.response())
        self.flow.close()


def _address(found: Any) -> tuple[str, int] | None:
    """Host and port of a socket's address, if it has them."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple | list) else None
