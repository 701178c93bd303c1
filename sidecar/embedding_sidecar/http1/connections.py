"""One connection to a provider, for one call at a time."""

import asyncio
from typing import Protocol, cast

from embedding_sidecar import errors, provider
from embedding_sidecar.http1 import answers, requests


class Owner(Protocol):
    """Keeps account of connections."""

    def made(self, connection: "Connection") -> None:
        """It is open."""
        ...

    def free(self, connection: "Connection") -> None:
        """Its call is over, and it may have another one."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It is closed."""
        ...


class Connection(asyncio.Protocol):
    """A connection; it closes itself whenever another answer could not be told from this one."""

    def __init__(self, origin: requests.Origin, *, owner: Owner) -> None:
        self.origin = origin
        self._owner = owner
        self._reader = answers.Reader()
        self._loop = asyncio.get_running_loop()
        self._call: asyncio.Future[provider.HttpAnswer] | None = None
        self._transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """Whether something can be sent, as far as is known."""
        return not self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, *, until: float) -> provider.HttpAnswer:
        """Send a request; its answer, which comes before `until`, of the loop's clock.

        Raises:
            errors.Unreachable: there is none. The connection is closed, as it is when this is
                cancelled.
        """
        if not self.is_open:
            raise errors.Unreachable("no_connection", billed=False)
        call: asyncio.Future[provider.HttpAnswer] = self._loop.create_future()
        self._call = call
        timer = self._loop.call_at(until, _expire, call)
        self._transport.writelines((head, body))
        try:
            return await call
        finally:
            timer.cancel()
            if self._call is call:
                self.close()

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
        if self._call is None:
            # Nobody has asked: what comes could be taken for the next call's answer.
            self.close()
            return
        try:
            answer = self._reader.feed(data)
        except ValueError:
            self.close()
            return
        if answer is not None:
            self._succeed(answer)

    def eof_received(self) -> None:
        """The other side sends no more; the transport closes itself."""
        answer = None if self._call is None else self._reader.end()
        if answer is not None:
            self._succeed(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        del exc  # whichever it is: what was sent may have arrived
        self._owner.lost(self)
        call, self._call = self._call, None
        if call is not None and not call.done():
            call.set_exception(errors.Unreachable("connection_lost", billed=True))
        self._reader.close()

    def _succeed(self, answer: provider.HttpAnswer) -> None:
        call, self._call = self._call, None
        if call is not None and not call.done():
            call.set_result(answer)
        # Who answered before it had read everything may never read the rest.
        if self._reader.is_reusable and not self._transport.get_write_buffer_size():
            self._owner.free(self)
        else:
            self.close()


def _expire(call: "asyncio.Future[provider.HttpAnswer]") -> None:
    if not call.done():
        call.set_exception(errors.Unreachable("timeout", billed=True))
