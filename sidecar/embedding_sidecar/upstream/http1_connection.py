"""One connection to a provider, for one call at a time."""

import asyncio
import functools
from collections.abc import Callable
from typing import Final, Protocol, cast

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import http1_request, http1_response
from embedding_sidecar.upstream.intake import Intake

Done = Callable[[provider_api.HttpAnswer | Exception], None]
"""Is told what has come of a call; raises nothing."""

LONG_READ_BYTES: Final = 65_536
"""After a read of more, others have their turn: reading so much of an answer takes a millisecond,
and the loop would go on with this connection for as long as its server is fast enough."""


class Owner(Protocol):
    """Keeps account of connections."""

    def made(self, connection: "Connection") -> None:
        """It is open."""
        ...

    def send_soon(self, connection: "Connection") -> None:
        """Its `send` is to be called, in this turn of the loop or right after it."""
        ...

    def free(self, connection: "Connection", *, now: float) -> None:
        """Its call is over now, by the loop's time, and it may have another one."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It is closed."""
        ...


class Connection(asyncio.Protocol):
    """A connection; it closes itself whenever another answer could not be told from this one."""

    def __init__(
        self, origin: http1_request.Origin, *, owner: Owner, intake: Intake | None = None
    ) -> None:
        self.origin = origin
        self._intake = Intake() if intake is None else intake
        self._owner = owner
        self._reader = http1_response.Reader()
        self._loop = asyncio.get_running_loop()
        self._done: Done | None = None
        """Who is told of the call that is under way; None: none is."""
        self._unsent: tuple[bytes, bytes] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """Whether something can be sent, as far as is known."""
        return not self._transport.is_closing()

    def start(
        self,
        head: bytes,
        body: bytes,
        *,
        within_seconds: float,
        done: Done,
        reader: provider_api.Body | None = None,
    ) -> Callable[[], None]:
        """Send a request while the connection is open and has no call; `reader` reads a 200.

        `done` is told its answer, or after that time, and wherever none can come any more, why
        there is none: later, once. What is returned cancels the call, and closes the connection:
        `done` is not told any more.
        """
        self._done = done
        self._reader.body = reader
        self._unsent = head, body
        self._owner.send_soon(self)
        self._until = until = self._loop.time() + within_seconds
        # One that comes too early looks again: most are not needed by then.
        if self._timer is None or self._timer.when() > until:
            self._set_timer(within_seconds)
        return functools.partial(self._cancel, done)

    def _cancel(self, done: Done) -> None:
        # Another call may be under way by now.
        if self._done is done:
            self._done = self._unsent = None
            self.close()

    def send(self) -> None:
        """Send what has been begun, if that is still wanted."""
        if self._unsent is not None and self._done is not None and self.is_open:
            self._transport.writelines(self._unsent)
            self._unsent = None

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        # uvloop's do what asyncio.Transport says without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._done is None or self._unsent is not None:
            # Nobody has asked: what comes could be taken for the next call's answer.
            self.close()
            return
        body = self._reader.body
        try:
            answer = self._reader.feed(data)
        except ValueError:
            self.close()
            return
        if answer is not None:
            if body is not None:
                self._intake.leave(body)
            self._succeed(answer)
        elif body is not None:
            self._intake.grew(body)
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
        """It is closed."""
        del exc  # whichever it is: what was sent may have arrived
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self)
        if self._reader.body is not None:
            self._intake.leave(self._reader.body)
        self._reader.close()
        self._tell("connection_lost")

    def _succeed(self, answer: provider_api.HttpAnswer) -> None:
        done, self._done = self._done, None
        # Who answered before it had read everything may never read the rest.
        if self._reader.is_reusable and not self._transport.get_write_buffer_size():
            self._owner.free(self, now=self._loop.time())
        else:
            self.close()
        if done is not None:
            done(answer)

    def _tell(self, why: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(errors.Unreachable(why, billed=self._unsent is None))

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
            self._tell("timeout")
