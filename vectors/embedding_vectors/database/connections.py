"""Connections to the table's database, opened when they are needed, closed after a failure.

They work behind pgbouncer in transaction mode: no statement is prepared, every SET is LOCAL.
psycopg's pool waits longer with each failure, up to minutes; these try to connect at each use, so
the caller's own waits decide how soon a database that is available again is used.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import conninfo, sql

from embedding_vectors.database import failures
from embedding_vectors.settings import Settings

CONNECT_SECONDS: Final = 4
STATEMENT_SECONDS: Final = 10
LOCK_SECONDS: Final = 0.8
"""A worker's transaction waits no longer for an application's lock."""
ANSWER_SECONDS: Final = 3
"""The time a transaction may take beyond its statements' before its connection is cut."""

_SET_LIMITS: Final = sql.SQL("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}")

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]


def connection_string(settings: Settings, *, application: str) -> str:
    """The DSN with each connection's settings: time-outs, application name, CA certificate.

    A parameter that the DSN itself sets is kept, except the name.

    Raises:
        DatabaseError: the DSN is missing or invalid.
    """
    try:
        dsn = settings.dsn or settings.dsn_file.read_text(encoding="utf-8").strip()
        given = conninfo.conninfo_to_dict(dsn)
    except (OSError, UnicodeDecodeError, psycopg.Error):
        given = {}
    if not given:
        raise failures.of_connecting(psycopg.ProgrammingError()) from None
    added: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 10_000,
    }
    if settings.ca_file.exists():
        added |= {"sslrootcert": os.fspath(settings.ca_file), "sslmode": "verify-full"}
    merged = {**added, **given, "application_name": application}
    return conninfo.make_conninfo("", **merged)


class Connections:
    """At most `most` connections; `find_dsn` is called for each new one."""

    def __init__(
        self,
        find_dsn: Callable[[], str],
        *,
        most: int,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        self._find_dsn = find_dsn
        self._room = asyncio.Semaphore(most)
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._statement_seconds = statement_seconds
        self._is_cut = False

    @asynccontextmanager
    async def transaction(self, *, lock_seconds: float = LOCK_SECONDS) -> AsyncIterator[Connection]:
        """One transaction, committed at its end, of bounded time.

        Raises:
            DatabaseError: it was not committed, or the outcome is unknown.
        """
        milliseconds = (round(it * 1_000) for it in (self._statement_seconds, lock_seconds))
        async with self.connection() as connection:
            with _cut_after(connection, self._statement_seconds + ANSWER_SECONDS):
                async with connection.transaction():
                    await connection.execute(_SET_LIMITS.format(*milliseconds))
                    yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection without a transaction, on which each statement commits by itself.

        Raises:
            DatabaseError: there is none, or a statement failed.
        """
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._connect()
            self._used.add(connection)
            try:
                yield connection
            except (psycopg.Error, OSError) as error:
                # The idle connections are most likely lost as well.
                self.close()
                raise failures.of(error) from None
            finally:
                self._used.discard(connection)
                if connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    # The connection is lost, or in a transaction that was not ended.
                    _close(connection)

    def cut(self) -> None:
        """Shut down the connections in use, and open no more: each statement fails at once."""
        self._is_cut = True
        for connection in self._used:
            _shut_down(connection)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            _close(self._idle.pop())

    async def _connect(self) -> Connection:
        if self._is_cut:
            raise failures.timeout("the connections were given up")
        dsn = self._find_dsn()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await psycopg.AsyncConnection.connect(
                    dsn, autocommit=True, prepare_threshold=None
                )
        except TimeoutError:
            raise failures.timeout("the database takes no connection in time") from None
        except (psycopg.Error, OSError) as error:
            raise failures.of_connecting(error) from None


class _cut_after:  # noqa: N801 - a context manager, used like a function
    """Cuts the connection unless the block ends in time.

    psycopg cancels a statement by asking the server first, which takes ten seconds where the
    server hangs.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, _shut_down, self._connection)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _shut_down(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error):
        descriptor = os.dup(connection.fileno())
        with socket.socket(fileno=descriptor) as shared:
            shared.shutdown(socket.SHUT_RDWR)


def _close(connection: Connection) -> None:
    # Nothing is awaited: a server that hangs would hold up the caller.
    connection.pgconn.finish()


def of_settings(
    settings: Settings, *, application: str, most: int, statement_seconds: float = STATEMENT_SECONDS
) -> Connections:
    """Connections by the DSN of the settings, read again for each."""
    return Connections(
        lambda: connection_string(settings, application=application),
        most=most,
        statement_seconds=statement_seconds,
    )
