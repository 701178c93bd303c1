"""SQL expressions of one row: its key, its text, the text's hash, the conditions on it.

Names of columns come from the index document alone and are quoted by psycopg; types are written as
the catalogue's format_type renders them. Values of conditions are literals quoted by psycopg.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.abc import AdaptContext
from psycopg.sql import SQL, Composable, Identifier, Literal

from embedding_contract.index_document import Condition, IndexDocument
from embedding_vectors.database.facts import TableFacts

EMBEDDING_COLUMN: Final = "embedding"
"""The vector column of a side table."""

_COMPARES: Final = {"=": "=", "!=": "IS DISTINCT FROM", "<": "<", ">": ">"}


def text_vector(document: IndexDocument, *, configuration: str) -> Composable:
    """The tsvector of a row's texts; the plan's GIN index is on this, and searches must use it.

    concat_ws is not immutable, so an index cannot use it; to a tsvector, missing texts and empty
    ones are the same. In a statement that is run with values it must be `doubled`.
    """
    texts = (
        SQL("coalesce({}::text, '')").format(Identifier(column)) for column in document.text_columns
    )
    quoted = '"' + configuration.replace('"', '""') + '"'
    return SQL("to_tsvector({}::regconfig, {})").format(
        Literal(quoted), SQL(" || E'\\n\\n' || ").join(texts)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A column of the primary key. `type` is the catalogue's own rendering."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The rows of a table that are to be embedded. In statements the table's alias is t.

    Its expressions are for statements that are run with values: see `doubled`.

    A row's key in the bookkeeping is a JSON array of its key columns, each as text, in the order
    of the primary key.
    """

    schema: str
    table: str
    keys: tuple[Key, ...]
    texts: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def relation(self) -> Composable:
        """The table's quoted name."""
        return doubled(Identifier(self.schema, self.table))

    @property
    def key_columns(self) -> Composable:
        """The key's columns of t, for ORDER BY and comparisons."""
        return doubled(SQL(", ").join(Identifier("t", key.name) for key in self.keys))

    def key(self, alias: str = "t") -> Composable:
        """The key of a row as the bookkeeping has it."""
        return doubled(key_of(tuple(key.name for key in self.keys), alias=alias))

    @property
    def text(self) -> Composable:
        """The text of a row: its columns joined by an empty line, NULL left out."""
        columns = SQL(", ").join(SQL("{}::text").format(Identifier("t", it)) for it in self.texts)
        return doubled(SQL("pg_catalog.concat_ws(E'\\n\\n', {})").format(columns))

    @property
    def text_hash(self) -> Composable:
        """SHA-256 of the text in UTF-8, as bytea."""
        return SQL("pg_catalog.sha256(pg_catalog.convert_to({}, 'UTF8'))").format(self.text)

    @property
    def condition(self) -> Composable:
        """The condition that a row of t must fulfil to be embedded."""
        return doubled(
            SQL(" AND ").join([SQL("true"), *(_condition(it) for it in self.conditions)])
        )

    @property
    def after(self) -> Composable:
        """The condition for rows of t after a key, whose columns are placeholders."""
        bounds = SQL(", ").join(SQL("%s::{}").format(_type(key)) for key in self.keys)
        return SQL("({}) > ({})").format(self.key_columns, bounds)

    def unnested_with(self, **more: str) -> Composable:
        """Keys as a table u(k0, ...), with more columns of the given types.

        Its placeholders take one list of texts for each key column, then one for each of `more`.
        """
        arrays = [SQL("%s::text[]")] * len(self.keys)
        arrays += [SQL(f"%s::{type_name}[]") for type_name in more.values()]
        names = [f"k{number}" for number in range(len(self.keys))] + list(more)
        return SQL("unnest({}) AS u({})").format(
            SQL(", ").join(arrays), SQL(", ").join(Identifier(it) for it in names)
        )

    @property
    def unnested_columns(self) -> Composable:
        """The key columns of u, of the table's types."""
        return SQL(", ").join(
            SQL("u.{}::{}").format(Identifier(f"k{number}"), _type(key))
            for number, key in enumerate(self.keys)
        )

    def is_key(self, alias: str = "t") -> Composable:
        """The condition that a row of the alias is the one that u names."""
        return SQL(" AND ").join(
            SQL("{} = {}::{}").format(
                doubled(Identifier(alias, key.name)), Identifier("u", f"k{number}"), _type(key)
            )
            for number, key in enumerate(self.keys)
        )

    def is_row_of_state(self) -> Composable:
        """The condition that a row of t has the key of the bookkeeping's row s."""
        return SQL(" AND ").join(
            SQL("{} = (s.key::jsonb ->> {})::{}").format(
                doubled(Identifier("t", key.name)), Literal(number), _type(key)
            )
            for number, key in enumerate(self.keys)
        )

    def columns_of(self, keys: Sequence[str]) -> list[list[str]]:
        """Keys of the bookkeeping as one list for each key column, for `unnested_with`."""
        rows = [json.loads(key) for key in keys]
        return [[row[number] for row in rows] for number in range(len(self.keys))]


def source(document: IndexDocument, table: TableFacts) -> Source:
    """The rows of the document's table. Its key columns must be the table's primary key."""
    columns = {it.name: it for it in table.columns}
    return Source(
        schema=document.schema,
        table=document.table,
        keys=tuple(Key(name=it, type=columns[it].type) for it in table.primary_key),
        texts=document.text_columns,
        conditions=document.rows,
    )


def key_of(columns: Sequence[str], *, alias: str) -> Composable:
    """The key of a row of `alias` as the bookkeeping has it."""
    texts = SQL(", ").join(SQL("{}::text").format(Identifier(alias, it)) for it in columns)
    return SQL("pg_catalog.jsonb_build_array({})::text").format(texts)


class _Doubled(Composable):
    def __init__(self, made: Composable) -> None:
        super().__init__(made)
        self.made = made

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        return self.made.as_bytes(context).replace(b"%", b"%%")


def doubled(made: Composable) -> Composable:
    """The expression with each % doubled, as a statement that is run with values needs it.

    psycopg takes a % for a placeholder even within an identifier or a literal that it has quoted.
    """
    return _Doubled(made)


def _type(key: Key) -> Composable:
    return doubled(SQL(key.type))


def _condition(wanted: Condition) -> Composable:
    column, value = Identifier("t", wanted.column), wanted.value
    if isinstance(value, tuple):
        if wanted.operator == "between":
            low, high = value
            return SQL("{} BETWEEN {} AND {}").format(column, Literal(low), Literal(high))
        if not value:
            return SQL("false")
        return SQL("{} IN ({})").format(column, SQL(", ").join(Literal(it) for it in value))
    if value is None and wanted.operator == "=":
        return SQL("{} IS NULL").format(column)
    return SQL("{} {} {}").format(column, SQL(_COMPARES[wanted.operator]), Literal(value))
