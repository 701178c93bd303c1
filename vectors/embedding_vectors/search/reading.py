"""Runs one statement of a search: a read-only transaction, in one round trip, of bounded time."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import pq

from embedding_contract.index_report import Problem
from embedding_vectors.database import failures
from embedding_vectors.database.connections import Connection, Connections
from embedding_vectors.errors import DatabaseError
from embedding_vectors.search import statements
from embedding_vectors.search.statements import Statement

MAX_WAITING: Final = 64
"""Searches that wait for a connection; one more is refused at once."""
WAIT_SECONDS: Final = 2.0
"""The longest wait for a connection, an open one or a new one."""
ANSWER_SECONDS: Final = 0.5
"""The time beyond the statement's own before its connection is cut: the server hangs."""
BUSY: Final = "SearchBusy"


class Reader:
    """Reads over at most `most` open connections."""

    def __init__(self, connections: Connections, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._connections = connections
        self._wait_seconds = wait_seconds
        self._waiting = 0

    async def read(
        self, statement: Statement, *, seconds: float, ef_search: int = statements.MIN_EF_SEARCH
    ) -> list[tuple[Any, ...]]:
        """The rows. A lost connection is tried again once: reading twice does no harm.

        Raises:
            DatabaseError: there are none within that time.
        """
        for attempt in (1, 2):
            try:
                async with self._connection() as connection:
                    return await _read(connection, statement, seconds=seconds, ef_search=ef_search)
            except DatabaseError as error:
                lost = error.problem.reason == failures.UNAVAILABLE
                if not lost or attempt > 1:
                    raise
                # The idle connections were lost at the same moment.
                self._connections.close()
        raise AssertionError

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._waiting >= MAX_WAITING:
            raise _busy("too many searches wait for a connection")
        async with AsyncExitStack() as stack:
            self._waiting += 1
            try:
                async with asyncio.timeout(self._wait_seconds):
                    connection = await stack.enter_async_context(self._connections.connection())
            except TimeoutError:
                raise _busy("no connection to the database was free in time") from None
            finally:
                self._waiting -= 1
            yield connection


async def _read(
    connection: Connection, statement: Statement, *, seconds: float, ef_search: int
) -> list[tuple[Any, ...]]:
    is_cut = False

    def cut() -> None:
        nonlocal is_cut
        is_cut = True
        _shut_down(connection)

    timer = asyncio.get_running_loop().call_later(seconds + ANSWER_SECONDS, cut)
    try:
        async with connection.pipeline():
            await connection.execute(statements.BEGIN)
            limits = (str(max(1, round(seconds * 1_000))), str(ef_search))
            await connection.execute(statements.SETTINGS, limits)
            ran = await connection.execute(statement.text, statement.values)
            await connection.execute(statements.COMMIT)
        return await ran.fetchall()
    except psycopg.Error as error:
        if is_cut:
            raise failures.timeout("the database stands still") from None
        failed = failures.of(error)
        if connection.info.transaction_status is not pq.TransactionStatus.UNKNOWN:
            with suppress(psycopg.Error):
                await connection.execute("ROLLBACK")
        raise failed from None
    finally:
        timer.cancel()


def _busy(message: str) -> DatabaseError:
    return DatabaseError(Problem(reason=BUSY, message=message), retry_helps=True)


def _shut_down(connection: Connection) -> None:
    """Wake the task that waits for the server: psycopg would ask the server to cancel first."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as shared,
    ):
        shared.shutdown(socket.SHUT_RDWR)
