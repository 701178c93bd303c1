"""POSTs over kept connections: the fewest steps that tell what was certainly never sent.

The events of a call are those of its connection, so it needs neither a task nor a future, unless a
connection is to be made first.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import (
    http1_connection,
    http1_dialer,
    http1_request,
    write_coalescer,
)
from embedding_sidecar.upstream import tls_authorities as trusted
from embedding_sidecar.upstream.intake import Intake

Cancel = Callable[[], object]

KEPT_SECONDS: Final = 15.0
"""How long a connection without a call is kept; aiohttp's default. A server closes it at some time,
and a call sent in that very moment is lost, and perhaps billed: better that we close it before.
Some, such as uvicorn and Node, wait for 5 s only, but with less than that an application that asks
now and then would pay a handshake for every call."""


class ConnectionPool:
    """Kept connections, the one used last first, and no bound on how many; to be closed."""

    def __init__(
        self,
        *,
        connect_seconds: float,
        dns_seconds: float,
        intake: Intake | None = None,
        authorities: trusted.Authorities | None = None,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._intake = Intake() if intake is None else intake
        self._dialer = http1_dialer.Dialer(dns_seconds=dns_seconds, authorities=authorities)
        self._connecting: set[asyncio.Timeout] = set()
        self._open: set[http1_connection.Connection] = set()
        self._idle: dict[http1_request.Origin, dict[http1_connection.Connection, float]] = {}
        """By origin, each since when; in this order."""
        self._writes = write_coalescer.WriteCoalescer()
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def start(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        within_seconds: float,
        done: http1_connection.Done,
        reader: provider_api.Body | None = None,
    ) -> Cancel:
        """POST a body; `done` is told later, once, the answer, of any status, or why there is none.

        That is errors.Unreachable after that time at the latest; not billed is what was not sent.
        `reader` takes the body of a 200. What is returned cancels the call.
        """
        loop = asyncio.get_running_loop()
        try:
            target = http1_request.target(url)
            head = http1_request.head(target, headers, body_bytes=len(body))
        except ValueError:
            never_sent = errors.Unreachable("no_connection", billed=False)
            return loop.call_soon(done, never_sent).cancel

        def send(connection: http1_connection.Connection, *, within_seconds: float) -> Cancel:
            return connection.start(
                head, body, within_seconds=within_seconds, done=done, reader=reader
            )

        connection = self._kept(target.origin)
        if connection is not None:
            return send(connection, within_seconds=within_seconds)
        connecting = loop.create_task(
            self._connect_and(send, target.origin, within_seconds=within_seconds, done=done)
        )
        return functools.partial(_cancel, connecting)

    async def close(self) -> None:
        """Close all connections; whoever waits for one, or for an answer, gets none."""
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

    def made(self, connection: http1_connection.Connection) -> None:
        """As http1_connection.Owner."""
        self._open.add(connection)
        self._is_empty.clear()

    def send_soon(self, connection: http1_connection.Connection) -> None:
        """As http1_connection.Owner."""
        self._writes.send(connection.send)

    def free(self, connection: http1_connection.Connection, *, now: float) -> None:
        """As http1_connection.Owner."""
        self._idle.setdefault(connection.origin, {})[connection] = now
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def lost(self, connection: http1_connection.Connection) -> None:
        """As http1_connection.Owner."""
        self._open.discard(connection)
        if not self._open:
            self._is_empty.set()
        self._idle.get(connection.origin, {}).pop(connection, None)

    def _kept(self, origin: http1_request.Origin) -> http1_connection.Connection | None:
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
        done: http1_connection.Done,
    ) -> Cancel | None:
        """Send over a new connection; what cancels that, or None where `done` has been told."""
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

    async def _connect(
        self, seconds: float, origin: http1_request.Origin
    ) -> http1_connection.Connection:
        if self._is_closed:
            raise OSError("the client is closed")
        async with asyncio.timeout(seconds) as limit:
            self._connecting.add(limit)
            try:
                return await self._dialer.dial(
                    origin,
                    lambda: http1_connection.Connection(origin, owner=self, intake=self._intake),
                )
            finally:
                self._connecting.discard(limit)

    def _sweep(self) -> None:
        """Close what has been idle for long, and come back for the next one that will be."""
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
