"""Carries a plan out, and reads the facts anew after each step, so that it can resume."""

import asyncio
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.errors import (
    DuplicateColumn,
    DuplicateObject,
    DuplicateTable,
    InternalError_,
    UndefinedObject,
    UniqueViolation,
)

from embedding_contract.index_document import IndexDocument
from embedding_vectors.database import bookkeeping, catalog, failures
from embedding_vectors.database.connections import Connections
from embedding_vectors.database.facts import Facts
from embedding_vectors.errors import DatabaseError, RefusedError
from embedding_vectors.schema import plan, statements

BUILD_POLL_SECONDS: Final = 0.5
LOCK_SECONDS: Final = 2.0
"""A new column waits no longer for its lock: later statements would queue behind it."""
LOCK_TRIES: Final = 30
_LOST_A_RACE: Final = (
    DuplicateColumn,
    DuplicateObject,
    DuplicateTable,
    InternalError_,  # "tuple concurrently updated", of a function or table
    UndefinedObject,
    UniqueViolation,
)
"""Errors of a step that another worker takes at the same time; the next look decides."""
RACES: Final = 20
FORGOTTEN_AT_ONCE: Final = 5_000


async def read(connections: Connections, document: IndexDocument) -> Facts:
    """The facts that a plan of the document is made of.

    Raises:
        DatabaseError: they cannot be read.
    """
    async with connections.transaction() as connection:
        found = await catalog.read(
            connection, schema=document.schema, tables=plan.tables_of(document)
        )
        known = found.table(bookkeeping.TARGET)
        is_read = found.uses_schema and known is not None and "SELECT" in known.rights
        rows = await bookkeeping.targets(connection, schema=document.schema) if is_read else ()
    return catalog.with_targets(found, rows)


async def apply(
    connections: Connections, document: IndexDocument, *, say: Callable[[str], None]
) -> Facts:
    """Run the steps not yet done; returns the facts afterwards. `say` receives each step.

    Raises:
        RefusedError: the plan is refused; the last look changed nothing.
        DatabaseError: a step failed; the next run resumes there.
    """
    races = waits = 0
    while True:
        facts = await read(connections, document)
        made = plan.make(document, facts)
        if made.refusals:
            raise RefusedError(*made.refusals)
        if not made.pending:
            return facts
        step = made.pending[0]
        if step.waits:
            await asyncio.sleep(BUILD_POLL_SECONDS)
            continue
        say(step.name)
        try:
            await _run(connections, step)
        except _RaceError:
            races += 1
            if races > RACES:
                raise failures.of(psycopg.errors.SerializationFailure()) from None
        except DatabaseError as error:
            waits += 1
            if error.problem.reason != failures.TIMEOUT or waits > LOCK_TRIES:
                raise
            say(f"{step.name}: waits for a lock")
            await asyncio.sleep(BUILD_POLL_SECONDS)


async def drop(
    connections: Connections, document: IndexDocument, *, say: Callable[[str], None]
) -> None:
    """Drop the retired targets that the document gives up.

    Raises:
        DatabaseError: one could not be dropped.
    """
    facts = await read(connections, document)
    for row in plan.droppable(document, facts.targets):
        say(f"drops {row.id}")
        forgets = statements.forget_states(document, row.id, most=FORGOTTEN_AT_ONCE)
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            async with connections.transaction() as connection:
                forgotten = (await connection.execute(forgets)).rowcount
        async with connections.transaction(lock_seconds=LOCK_SECONDS) as connection:
            for statement in statements.drop_target(document, row):
                await connection.execute(statement)


class _RaceError(Exception):
    """Another session has taken the same step."""


async def _run(connections: Connections, step: plan.Step) -> None:
    if step.is_concurrent:
        async with connections.connection() as connection:
            try:
                for statement in step.statements:
                    await connection.execute(statement)
            except _LOST_A_RACE:
                raise _RaceError from None
        return
    async with connections.transaction(lock_seconds=LOCK_SECONDS) as connection:
        try:
            for statement in step.statements:
                await connection.execute(statement)
        except _LOST_A_RACE:
            raise _RaceError from None
