"""The statements of a search: a closed set, made of the document's names alone.

No value is ever a part of a text. The set is: two shapes, for each target and for the table's text,
and for each sequence of conditions that a filter may hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from embedding_contract.index_document import IndexDocument, Search
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.search.requests import ALIAS, Request

MIN_EF_SEARCH: Final = 100
"""pgvector's own is 40; recall at k = 10 wants more, and it costs little."""
SIDE_COLUMN: Final = "embedding"
MAX_VECTOR_DIMENSIONS: Final = 2_000
"""Above it a target is of the type halfvec."""

SETTINGS: Final = sql.SQL(
    "SELECT pg_catalog.set_config('statement_timeout', %s, true),"
    " pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " pg_catalog.set_config('hnsw.ef_search', %s, true)"
)
"""As SET LOCAL, which takes no parameters."""
BEGIN: Final = sql.SQL("BEGIN READ ONLY")
COMMIT: Final = sql.SQL("COMMIT")

_VECTORS: Final = sql.SQL(
    "WITH found AS MATERIALIZED (SELECT {shown}, {keys},"
    " {vector} OPERATOR({extension}.<=>) %s::{vector_type} AS distance"
    " FROM {source} WHERE {vector} IS NOT NULL AND {rows} AND {where}"
    " ORDER BY distance LIMIT %s)"
    " SELECT {names}, distance FROM found ORDER BY distance + 0, {key_names}"
)
# The outer sort: with relaxed_order an iterative scan returns rows nearly in order. `+ 0` keeps the
# planner from taking the inner order for it (pgvector's README, "Iterative Index Scans").
_TEXT: Final = sql.SQL(
    "SELECT {shown}, pg_catalog.ts_rank_cd({text}, asked.query) AS score"
    " FROM {table} AS t, pg_catalog.websearch_to_tsquery({configuration}, %s) AS asked(query)"
    " WHERE {text} @@ asked.query AND {rows} AND {where}"
    " ORDER BY score DESC, {keys} LIMIT %s"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A text and its parameters, in order."""

    text: sql.Composed
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The document's own conditions: what is not to be embedded is not to be found either."""

    where: sql.Composed
    values: tuple[object, ...] = ()


def shown_columns(document: IndexDocument, search: Search) -> tuple[str, ...]:
    """The columns of a result, in the order of a statement's: the key's first."""
    return (*document.key_columns, *search.return_columns)


def by_vectors(
    document: IndexDocument,
    search: Search,
    target: TargetRow,
    request: Request,
    *,
    rows: Rows,
    extension_schema: str,
    vector: str,
    most: int,
) -> Statement:
    """The `most` rows nearest to a vector, given as text: shown columns as JSON text, distance."""
    type_name = "vector" if target.dimensions <= MAX_VECTOR_DIMENSIONS else "halfvec"
    table = sql.Identifier(document.schema, document.table)
    if target.table is not None:
        keys = sql.SQL(", ").join(map(sql.Identifier, document.key_columns))
        side = sql.Identifier(document.schema, target.table)
        # Not USING with `t.`: the join's own columns have no table's name, and need none here.
        source = sql.SQL("{} AS v JOIN {} AS t USING ({})").format(side, table, keys)
        column = sql.Identifier("v", SIDE_COLUMN)
    else:
        source = sql.SQL("{} AS t").format(table)
        column = sql.Identifier(ALIAS, target.column or "")
    shown = shown_columns(document, search)
    text = _VECTORS.format(
        shown=_as_json(shown),
        keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(ALIAS, name), sql.Identifier(f"k{place}"))
            for place, name in enumerate(document.key_columns)
        ),
        vector=column,
        extension=sql.Identifier(extension_schema),
        vector_type=sql.Identifier(extension_schema, type_name),
        source=source,
        rows=rows.where,
        where=request.where,
        names=_names("c", len(shown)),
        key_names=_names("k", len(document.key_columns)),
    )
    return Statement(text=text, values=(vector, *rows.values, *request.values, most))


def by_text(
    document: IndexDocument, search: Search, request: Request, *, rows: Rows, most: int
) -> Statement:
    """The `most` rows whose text matches the query best: shown columns as JSON text, rank."""
    text = _TEXT.format(
        shown=_as_json(shown_columns(document, search)),
        text=text_vector(document, search),
        table=sql.Identifier(document.schema, document.table),
        configuration=_configuration(search),
        rows=rows.where,
        where=request.where,
        keys=sql.SQL(", ").join(sql.Identifier(ALIAS, it) for it in document.key_columns),
    )
    return Statement(text=text, values=(request.query, *rows.values, *request.values, most))


def text_vector(document: IndexDocument, search: Search) -> sql.Composed:
    """What the plan's GIN index is over, letter by letter, or that would not be used."""
    joined = sql.SQL(" || E'\\n\\n' || ").join(
        sql.SQL("COALESCE({}, '')").format(sql.Identifier(ALIAS, it))
        for it in document.text_columns
    )
    return sql.SQL("pg_catalog.to_tsvector({}, {})").format(_configuration(search), joined)


def _configuration(search: Search) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.regconfig").format(sql.Literal(search.text_configuration))


def _as_json(columns: Sequence[str]) -> sql.Composed:
    # As text: PostgreSQL says how a value of any type is JSON, and nothing reads it again.
    return sql.SQL(", ").join(
        sql.SQL("pg_catalog.to_json({})::text AS {}").format(
            sql.Identifier(ALIAS, name), sql.Identifier(f"c{place}")
        )
        for place, name in enumerate(columns)
    )


def _names(letter: str, count: int) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(f"{letter}{place}") for place in range(count))
