"""A target as the worker sees it: where its rows come from, and how its vectors are written."""

from dataclasses import dataclass

import orjson
from psycopg.sql import SQL, Composed, Identifier

from embedding_contract.index_document import IndexDocument
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import Extension, Facts, TableFacts, TargetRow
from embedding_vectors.schema import expressions, statements
from embedding_vectors.schema.expressions import EMBEDDING_COLUMN, Source, doubled


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One target. `locks_rows` is False where the role may not lock rows of the table.

    Then a text that changes while its vector is written is found by its hash afterwards.
    """

    row: TargetRow
    source: Source
    extension: Extension
    locks_rows: bool

    @property
    def id(self) -> str:
        """The target's id."""
        return self.row.id

    @property
    def states(self) -> Composed:
        """The table of the rows' states."""
        return SQL("{}").format(doubled(Identifier(self.source.schema, bookkeeping.STATE)))

    @property
    def targets(self) -> Composed:
        """The table of targets."""
        return SQL("{}").format(doubled(Identifier(self.source.schema, bookkeeping.TARGET)))

    @property
    def _type(self) -> Composed:
        return SQL("{}").format(
            doubled(statements.vector_type(self.extension, self.row.dimensions))
        )

    @property
    def lock_same(self) -> Composed:
        """Locks rows whose text is still the same, and returns their keys.

        Values: the key columns' lists, keys, hashes. A row that others have locked is left out.
        """
        lock = SQL(" FOR NO KEY UPDATE OF t SKIP LOCKED") if self.locks_rows else SQL("")
        return SQL(
            "SELECT u.key FROM {relation} t JOIN {named} ON {is_key} WHERE {hash} = u.hash{lock}"
        ).format(
            relation=self.source.relation,
            named=self.source.unnested_with(key="text", hash="bytea"),
            is_key=self.source.is_key(),
            hash=self.source.text_hash,
            lock=lock,
        )

    @property
    def write(self) -> Composed:
        """Writes vectors. Values: the key columns' lists, and vectors as text."""
        named = self.source.unnested_with(vector="text")
        if self.row.column is not None:
            return SQL("UPDATE {} t SET {} = u.vector::{} FROM {} WHERE {}").format(
                self.source.relation,
                doubled(Identifier(self.row.column)),
                self._type,
                named,
                self.source.is_key(),
            )
        names = doubled(SQL(", ").join(Identifier(key.name) for key in self.source.keys))
        return SQL(
            "INSERT INTO {} ({}, embedding) SELECT {}, u.vector::{} FROM {}"
            " ON CONFLICT ({}) DO UPDATE SET embedding = excluded.embedding"
        ).format(self._side, names, self.source.unnested_columns, self._type, named, names)

    @property
    def remove(self) -> Composed:
        """Removes vectors. Values: the key columns' lists."""
        if self.row.column is not None:
            column = doubled(Identifier(self.row.column))
            return SQL("UPDATE {} t SET {} = NULL FROM {} WHERE {} AND t.{} IS NOT NULL").format(
                self.source.relation,
                column,
                self.source.unnested_with(),
                self.source.is_key(),
                column,
            )
        return SQL("DELETE FROM {} t USING {} WHERE {}").format(
            self._side, self.source.unnested_with(), self.source.is_key()
        )

    @property
    def _side(self) -> Composed:
        return SQL("{}").format(
            doubled(Identifier(self.source.schema, self.row.table or EMBEDDING_COLUMN))
        )

    def text_of(self, vector: bytes) -> str:
        """A vector as pgvector reads it: `[0.5,1]`."""
        return orjson.dumps(memoryview(vector).cast("f").tolist()).decode()


def of(document: IndexDocument, facts: Facts, row: TargetRow) -> Place | None:
    """The place of a registered target; None where there is none to write to."""
    table = facts.table(document.table)
    if table is None or facts.extension is None or not table.primary_key:
        return None
    if row.column is not None and table.column(row.column) is None:
        return None
    return Place(
        row=row,
        source=expressions.source(document, table),
        extension=facts.extension,
        locks_rows=_may_lock(table),
    )


def _may_lock(table: TableFacts) -> bool:
    return bool(table.updates)
