"""Makes POSTs over kept connections, in few steps, and reports what was certainly never sent.

The events of a call are those of its connection, so it needs neither a task nor a future, unless a
connection is to be made first.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Final, cast

from embedding_http.flow import WriteCoalescer
from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api, vector_decoder
from embedding_sidecar.upstream import answer_body, http1_dialer, http1_request, http1_response
from embedding_sidecar.upstream import tls_authorities as trusted

Cancel = Callable[[], object]
Done = Callable[[provider_api.HttpAnswer | Exception], None]
"""Receives the result of a call; raises nothing."""

KEPT_SECONDS: Final = 15.0
"""Time that a connection without a call is kept; aiohttp's default. A server closes it at some
time, and a call sent at that very moment is lost, and perhaps billed: we had better close it first.
Some servers, such as uvicorn and Node, wait for 5 s only, but with less than that an application
that calls now and then would pay a handshake for every call."""

LONG_READ_BYTES: Final = 65_536
"""After a longer read, other connections get their turn: so much of an answer takes a millisecond
to read, and the loop would stay with this connection for as long as its server is fast enough."""


class Connection(asyncio.Protocol):
    """A connection; it closes itself if the next answer could be confused with this one."""

    def __init__(self, origin: http1_request.Origin, *, owner: "ConnectionPool") -> None:
        self.origin = origin
        self._owner = owner
        self._reader = http1_response.Reader()
        self._loop = asyncio.get_running_loop()
        self._done: Done | None = None
        """The callback of the call under way; None: there is no call."""
        self._unsent: tuple[bytes, bytes] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """True if something can be sent, as far as is known."""
        return not self._transport.is_closing()

    def start(
        self,
        head: bytes,
        body: bytes,
        *,
        within_seconds: float,
        done: Done,
        reader: vector_decoder.Reader | None = None,
    ) -> Callable[[], None]:
        """Send a request; the connection must be open and have no call. `reader` reads a 200.

        `done` is called once, later: with the answer, or with an error, after `within_seconds` or
        when no answer can come any more. The function returned cancels the call and closes the
        connection: `done` is not called then.
        """
        self._done = done
        self._reader.body = reader
        self._unsent = head, body
        self._owner.writes.send(self.send)
        self._until = until = self._loop.time() + within_seconds
        # A timer that fires too early is set again: most are no longer needed by then.
        if self._timer is None or self._timer.when() > until:
            self._set_timer(within_seconds)
        return functools.partial(self._cancel, done)

    def _cancel(self, done: Done) -> None:
        # Another call may be under way by now.
        if self._done is done:
            self._done = self._unsent = None
            self.close()

    def send(self) -> None:
        """Send the request of `start`, unless its call has ended."""
        if self._unsent is not None and self._done is not None and self.is_open:
            self._transport.writelines(self._unsent)
            self._unsent = None

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read more of the answer."""
        if self._done is None or self._unsent is not None:
            # No request was sent: the data could be taken for the next call's answer.
            self.close()
            return
        body = self._reader.body
        try:
            answer = self._reader.feed(data)
        except ValueError:
            self.close()
            return
        if answer is not None:
            self._owner.intake.leave(body)
            self._succeed(answer)
        elif body is not None:
            self._owner.intake.grew(body)
            if len(data) >= LONG_READ_BYTES:
                self._transport.pause_reading()
                self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.is_open:
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The other side sends no more; the transport closes itself."""
        answer = None if self._done is None or self._unsent else self._reader.end()
        if answer is not None:
            self._succeed(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        del exc  # whichever it is: what was sent may have arrived
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self)
        self._owner.intake.leave(self._reader.body)
        self._reader.close()
        self._fail("connection_lost")

    def _succeed(self, answer: provider_api.HttpAnswer) -> None:
        # A server that answered before it had read everything may never read the rest.
        if self._reader.is_reusable and not self._transport.get_write_buffer_size():
            self._owner.free(self, now=self._loop.time())
        else:
            self.close()
        self._tell(answer)

    def _fail(self, why: str) -> None:
        self._tell(errors.Unreachable(why, billed=self._unsent is None))

    def _tell(self, said: provider_api.HttpAnswer | Exception) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(said)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._done is None:
            return
        left = self._until - self._loop.time()
        if left > 0:
            self._set_timer(left)
        else:
            self.close()
            self._fail("timeout")


class ConnectionPool:
    """Kept connections, the last used first, without a bound on their number; must be closed."""

    def __init__(
        self,
        *,
        connect_seconds: float,
        dns_seconds: float,
        intake: answer_body.Intake,
        authorities: trusted.Authorities,
    ) -> None:
        self.intake = intake
        self.writes = WriteCoalescer()
        self._connect_seconds = connect_seconds
        self._dialer = http1_dialer.Dialer(dns_seconds=dns_seconds, authorities=authorities)
        self._connecting: set[asyncio.Timeout] = set()
        self._open: set[Connection] = set()
        self._idle: dict[http1_request.Origin, dict[Connection, float]] = {}
        """By origin: each idle connection and the time since when, in this order."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def start(
        self, request: provider_api.HttpRequest, *, within_seconds: float, done: Done
    ) -> Cancel:
        """See provider_api.Upstream."""
        loop = asyncio.get_running_loop()
        try:
            target = http1_request.target(request.url)
            head = http1_request.head(target, request.headers, body_bytes=len(request.body))
        except ValueError:
            never_sent = errors.Unreachable("no_connection", billed=False)
            return loop.call_soon(done, never_sent).cancel
        connection = self._kept(target.origin)
        if connection is not None:
            return connection.start(
                head, request.body, within_seconds=within_seconds, done=done, reader=request.reader
            )
        send = functools.partial(
            Connection.start, head=head, body=request.body, done=done, reader=request.reader
        )
        connecting = loop.create_task(
            self._connect_and(send, target.origin, within_seconds=within_seconds, done=done)
        )
        return functools.partial(_cancel, connecting)

    async def close(self) -> None:
        """Close all connections; calls that wait for one, or for an answer, fail."""
        self._is_closed = True
        for limit in self._connecting:
            if not limit.expired():
                limit.reschedule(0)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in tuple(self._open):
            connection.close()
        await self._is_empty.wait()
        self._dialer.close()

    def free(self, connection: Connection, *, now: float) -> None:
        """Keep a connection for another call; its last one ended `now`, in the loop's time."""
        self._idle.setdefault(connection.origin, {})[connection] = now
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if not self._open:
            self._is_empty.set()
        self._idle.get(connection.origin, {}).pop(connection, None)

    def _kept(self, origin: http1_request.Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection, _ = idle.popitem()
            if connection.is_open:
                return connection
        return None

    async def _connect_and(
        self,
        send: Callable[..., Cancel],
        origin: http1_request.Origin,
        *,
        within_seconds: float,
        done: Done,
    ) -> Cancel | None:
        """Send over a new connection; returns how to cancel, or None if `done` was called."""
        until = asyncio.get_running_loop().time() + within_seconds
        try:
            connection = await self._connect(min(within_seconds, self._connect_seconds), origin)
        except TimeoutError:
            done(errors.Unreachable("connect_timeout", billed=False))
        except (OSError, ValueError) as error:
            done(errors.Unreachable(trusted.word(error) or "no_connection", billed=False))
        except Exception as fault:  # noqa: BLE001 - a request waits for it, whatever it is
            done(fault)
        else:
            if connection.is_open:
                return send(connection, within_seconds=until - asyncio.get_running_loop().time())
            done(errors.Unreachable("no_connection", billed=False))
        return None

    async def _connect(self, seconds: float, origin: http1_request.Origin) -> Connection:
        if self._is_closed:
            raise OSError("the client is closed")
        async with asyncio.timeout(seconds) as limit:
            self._connecting.add(limit)
            try:
                made = await self._dialer.dial(
                    origin, functools.partial(Connection, origin, owner=self)
                )
            finally:
                self._connecting.discard(limit)
        # Not counted sooner: a connection whose dial is cancelled as soon as it is made is closed
        # by uvloop without `connection_lost`, and `close` would wait for it for ever.
        if made.is_open:
            self._open.add(made)
            self._is_empty.clear()
        return made

    def _sweep(self) -> None:
        """Close connections that have been idle for too long, and schedule the next sweep."""
        loop = asyncio.get_running_loop()
        since = loop.time() - KEPT_SECONDS
        for origin, idle in tuple(self._idle.items()):
            for connection in [it for it, began in idle.items() if began <= since]:
                connection.close()
                del idle[connection]
            if not idle:
                del self._idle[origin]
        oldest = min((next(iter(idle.values())) for idle in self._idle.values()), default=None)
        self._sweeping = (
            None if oldest is None else loop.call_at(oldest + KEPT_SECONDS, self._sweep)
        )


def _cancel(connecting: "asyncio.Task[Cancel | None]") -> None:
    """Cancel a call that began without a connection."""
    if not connecting.done():
        connecting.cancel()
    elif not connecting.cancelled() and (cancel := connecting.result()) is not None:
        cancel()
