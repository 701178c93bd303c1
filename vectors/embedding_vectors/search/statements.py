"""The statements of a search: a closed set, made of the document's names alone.

No value is ever part of a statement's text. The set has a shape for each target and two for the
table's text, each of them for every sequence of conditions that a filter may hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from embedding_contract.index_document import IndexDocument, Search
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.schema import expressions
from embedding_vectors.schema.expressions import EMBEDDING_COLUMN, doubled
from embedding_vectors.schema.statements import base_type
from embedding_vectors.search.requests import ALIAS, MAX_WORDS_BYTES, Request

MIN_EF_SEARCH: Final = 100
"""pgvector's default is 40; recall at k = 10 needs more, which costs little."""

SETTINGS: Final = sql.SQL(
    "SELECT pg_catalog.set_config('statement_timeout', %s, true),"
    " pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " pg_catalog.set_config('hnsw.ef_search', %s, true)"
)
"""The same as SET LOCAL, which takes no parameters."""
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
    "SELECT {shown}, pg_catalog.ts_rank_cd({text}, {asked}) AS score FROM {table} AS t"
    " WHERE {text} @@ {asked} AND {rows} AND {where} ORDER BY score DESC, {keys} LIMIT %s"
)
_ALL_WORDS: Final = sql.SQL("pg_catalog.websearch_to_tsquery({}::regconfig, %s)")
_ANY_WORD: Final = sql.SQL(
    "pg_catalog.replace(pg_catalog.plainto_tsquery({}::regconfig, %s)::text, ' & ', ' | ')"
    "::pg_catalog.tsquery"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement's text and its parameters, in order."""

    text: sql.Composed
    values: tuple[object, ...]


def shown_columns(document: IndexDocument, search: Search) -> tuple[str, ...]:
    """The columns of a result, in the order of a statement's: the key's first."""
    return (*document.key_columns, *search.return_columns)


def by_vectors(
    document: IndexDocument,
    search: Search,
    target: TargetRow,
    request: Request,
    *,
    extension_schema: str,
    vector: str,
    most: int,
) -> Statement:
    """The `most` rows nearest to a vector, given as text: shown columns as JSON text, distance."""
    table = _named(document.schema, document.table)
    if target.table is not None:
        keys = sql.SQL(", ").join(map(_named, document.key_columns))
        side = _named(document.schema, target.table)
        source = sql.SQL("{} AS v JOIN {} AS t USING ({})").format(side, table, keys)
        column = _named("v", EMBEDDING_COLUMN)
    else:
        source = sql.SQL("{} AS t").format(table)
        column = _named(ALIAS, target.column or "")
    shown = shown_columns(document, search)
    text = _VECTORS.format(
        shown=_as_json(shown),
        keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(_named(ALIAS, name), _named(f"k{place}"))
            for place, name in enumerate(document.key_columns)
        ),
        vector=column,
        extension=_named(extension_schema),
        vector_type=_named(extension_schema, base_type(target.dimensions)),
        source=source,
        rows=_rows(document),
        where=request.where,
        names=_numbered("c", len(shown)),
        key_names=_numbered("k", len(document.key_columns)),
    )
    return Statement(text=text, values=(vector, *request.values, most))


def by_text(
    document: IndexDocument, search: Search, request: Request, *, most: int, any_word: bool = False
) -> Statement:
    """The `most` rows whose text matches the query best: shown columns as JSON text, rank.

    The query has the syntax of websearch_to_tsquery; with `any_word` it is plain words, of which a
    row needs to have one.
    """
    configuration = search.text_configuration
    quoted = '"' + configuration.replace('"', '""') + '"'
    text = _TEXT.format(
        shown=_as_json(shown_columns(document, search)),
        # The expression must be that of the plan's index, letter by letter, or no index is used.
        text=doubled(expressions.text_vector(document, configuration=configuration)),
        asked=(_ANY_WORD if any_word else _ALL_WORDS).format(doubled(sql.Literal(quoted))),
        table=_named(document.schema, document.table),
        rows=_rows(document),
        where=request.where,
        keys=sql.SQL(", ").join(_named(ALIAS, it) for it in document.key_columns),
    )
    # The beginning of a long question stands for all of it.
    words = request.query.encode()[:MAX_WORDS_BYTES].decode(errors="ignore")
    return Statement(text=text, values=(words, words, *request.values, most))


def _named(*parts: str) -> sql.Composable:
    return doubled(sql.Identifier(*parts))


def _rows(document: IndexDocument) -> sql.Composable:
    """The document's own conditions: rows that are not to be embedded are not found either."""
    source = expressions.Source(
        schema=document.schema,
        table=document.table,
        keys=(),
        texts=document.text_columns,
        conditions=document.rows,
    )
    return source.condition


def _as_json(columns: Sequence[str]) -> sql.Composed:
    # The JSON stays text: PostgreSQL renders a value of any type, and nothing parses it again.
    return sql.SQL(", ").join(
        sql.SQL("pg_catalog.to_json({})::text AS {}").format(
            _named(ALIAS, name), _named(f"c{place}")
        )
        for place, name in enumerate(columns)
    )


def _numbered(letter: str, count: int) -> sql.Composed:
    return sql.SQL(", ").join(_named(f"{letter}{place}") for place in range(count))
