"""The target to search, by the bookkeeping, which is read at most once a second."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from psycopg import sql

from embedding_contract.index_document import IndexDocument
from embedding_vectors import report
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.errors import DatabaseError
from embedding_vectors.schema.expressions import doubled
from embedding_vectors.search.reading import Reader
from embedding_vectors.search.statements import Statement

EVERY_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0
FILLED: Final = ("Switched", "Ready")
"""Phases in which a target can be searched, the better first."""
_NOT_THERE: Final = frozenset({"42P01", "3F000"})
"""No such table, or schema: the plan has not been applied."""

_TARGETS: Final = sql.SQL(
    "SELECT target, index_uid, index_name, model, dimensions, space, phase, target_column,"
    " target_table, request_dimensions, rows, done, parked FROM {} WHERE index_uid = %s"
    " ORDER BY target"
)


class Targets:
    """The targets of an index; one read serves all concurrent callers."""

    def __init__(self, reader: Reader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._known: tuple[TargetRow, ...] = ()
        self._of: tuple[str, str] | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def of(self, document: IndexDocument) -> tuple[TargetRow, ...]:
        """The targets of the document's index; none where the plan has not been applied.

        Raises:
            DatabaseError: they cannot be read.
        """
        wanted = (document.schema, document.uid)
        async with self._lock:
            if self._of != wanted or self._clock() >= self._until:
                self._known = await self._read(document)
                self._of, self._until = wanted, self._clock() + EVERY_SECONDS
            return self._known

    def forget(self) -> None:
        """Read the targets anew at the next use: something has changed."""
        self._of = None

    async def _read(self, document: IndexDocument) -> tuple[TargetRow, ...]:
        text = _TARGETS.format(doubled(sql.Identifier(document.schema, bookkeeping.TARGET)))
        statement = Statement(text=text, values=(document.uid,))
        try:
            rows = await self._reader.read(statement, seconds=READ_SECONDS)
        except DatabaseError as error:
            if error.problem.sqlstate in _NOT_THERE:
                return ()
            raise
        return tuple(_target(row) for row in rows)


def _target(row: tuple[object, ...]) -> TargetRow:
    names = (
        "id",
        "index_uid",
        "index_name",
        "model",
        "dimensions",
        "space",
        "phase",
        "column",
        "table",
        "request_dimensions",
        "rows",
        "done",
        "parked",
    )
    return TargetRow(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type] # as selected


def serving(targets: Sequence[TargetRow], *, document: IndexDocument) -> TargetRow | None:
    """The target whose model embeds queries, as the report says; None where there is none."""
    wanted = report.serving(document, targets)
    return next((it for it in targets if it.id == wanted), None)


def of_space(targets: Sequence[TargetRow], space: str) -> TargetRow | None:
    """The target that holds vectors of this space and is filled; None where there is none."""
    for phase in FILLED:
        for it in targets:
            if it.phase == phase and it.space == space:
                return it
    return None
