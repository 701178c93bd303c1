"""The facts of the table in pg_catalog: the types of its columns, and pgvector's schema."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from embedding_contract.index_document import IndexDocument
from embedding_vectors.conditions import ColumnType
from embedding_vectors.search.reading import Reader
from embedding_vectors.search.statements import Statement

KEPT_SECONDS: Final = 60.0
READ_SECONDS: Final = 2.0

# A domain counts as its base type; the labels of pg_enum are an array, in their order.
_TYPES: Final = sql.SQL(
    """
WITH RECURSIVE columns AS (
  SELECT a.attname, a.atttypid AS oid
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT columns.attname, t.typbasetype
    FROM columns JOIN pg_catalog.pg_type t ON t.oid = columns.oid AND t.typtype = 'd'
)
SELECT columns.attname, n.nspname, t.typname,
       CASE WHEN t.typtype = 'e' THEN ARRAY(
         SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
          WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) END,
       (SELECT x.nspname FROM pg_catalog.pg_extension v
          JOIN pg_catalog.pg_namespace x ON x.oid = v.extnamespace WHERE v.extname = 'vector')
  FROM columns
  JOIN pg_catalog.pg_type t ON t.oid = columns.oid AND t.typtype <> 'd'
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table's facts. `extension_schema` is pgvector's, empty where it is not installed."""

    types: Mapping[str, ColumnType]
    extension_schema: str


class Columns:
    """Reads the table's facts, and again after `KEPT_SECONDS` or `forget`, or for another table."""

    def __init__(self, reader: Reader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._known: Table | None = None
        self._of: tuple[str, str] = ("", "")
        self._until = 0.0

    async def of(self, document: IndexDocument) -> Table:
        """The document's table; one that does not exist has no columns.

        Raises:
            DatabaseError: it is not known yet, or no longer, and cannot be read.
        """
        wanted = (document.schema, document.table)
        if self._known is None or self._of != wanted or self._clock() >= self._until:
            rows = await self._reader.read(
                Statement(text=sql.Composed([_TYPES]), values=wanted), seconds=READ_SECONDS
            )
            self._known = Table(
                types={
                    name: ColumnType(
                        schema=schema,
                        name=type_name,
                        labels=None if labels is None else tuple(labels),
                    )
                    for name, schema, type_name, labels, _ in rows
                },
                extension_schema=next((row[-1] for row in rows if row[-1]), ""),
            )
            self._of, self._until = wanted, self._clock() + KEPT_SECONDS
        return self._known

    def forget(self) -> None:
        """Read the table anew at the next use: something has changed."""
        self._known = None
