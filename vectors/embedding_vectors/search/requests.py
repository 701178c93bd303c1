"""The request for a search, parsed without the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from psycopg import sql

from embedding_contract import index_document
from embedding_contract.index_document import Condition, IndexDocument, Search
from embedding_contract.json_fields import InvalidDocument
from embedding_vectors import conditions
from embedding_vectors.conditions import ColumnType
from embedding_vectors.serving.refusals import Refusal

MAX_K: Final = 1_000
"""The most that pgvector's `hnsw.ef_search` can be, which must not be below k."""
MAX_QUERY_BYTES: Final = 32_768
MAX_WORDS_BYTES: Final = 4_096
"""The longest query in mode text. PostgreSQL takes seconds to read thousands of words, and cannot
be stopped meanwhile."""
MAX_CONDITIONS: Final = 32
MODES: Final = ("vector", "text", "hybrid")

_DEFAULT_K: Final = 10
_KEYS: Final = frozenset({"query", "k", "filter", "index", "mode"})
_CONDITION_KEYS: Final = frozenset({"column", "operator", "value"})
_MAX_SHOWN: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request. `where` has the conditions as SQL on the alias `ALIAS`, `values` its values."""

    query: str = field(repr=False)
    k: int
    mode: str
    where: sql.Composed
    values: tuple[object, ...] = field(repr=False)


ALIAS: Final = "t"
"""The alias of the indexed table in every statement."""


def parse(
    body: bytes, *, document: IndexDocument, search: Search, types: Mapping[str, ColumnType]
) -> Request:
    """Read a request. `types` are those of the table's columns.

    Raises:
        Refusal: 400, with `param` naming the field, such as `filter[2].value`.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"The body is no JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise Refusal("The body must be a JSON object.")
    for key in raw.keys() - _KEYS:
        shown = key[:_MAX_SHOWN]
        raise Refusal(f"Unrecognized request argument supplied: {shown}", param=shown)
    _check_index(raw.get("index"), document)
    where, values = _filter(raw.get("filter"), search=search, types=types)
    mode = _mode(raw.get("mode"))
    most_bytes = MAX_WORDS_BYTES if mode == "text" else MAX_QUERY_BYTES
    return Request(
        query=_query(raw.get("query"), most_bytes=most_bytes),
        k=_k(raw.get("k")),
        mode=mode,
        where=where,
        values=values,
    )


def _check_index(value: object, document: IndexDocument) -> None:
    if value not in (None, document.name):
        raise Refusal(
            f"'index' names another index; the one that is searched here is {document.name}.",
            param="index",
        )


def _query(value: object, *, most_bytes: int) -> str:
    if value is None:
        raise Refusal("You must provide 'query'.", param="query")
    if not isinstance(value, str):
        raise Refusal("'query' must be a string.", param="query")
    if not value.strip():
        raise Refusal("'query' must not be empty.", param="query")
    if "\0" in value:
        raise Refusal(
            "'query' must hold no character U+0000, which PostgreSQL cannot store.", param="query"
        )
    size = len(value.encode())
    if size > most_bytes:
        raise Refusal(
            f"'query' has {size} bytes; at most {most_bytes} are allowed in this mode.",
            param="query",
        )
    return value


def _k(value: object) -> int:
    if value is None:
        return _DEFAULT_K
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_K:
        raise Refusal(f"'k' must be an integer from 1 to {MAX_K}.", param="k")
    return value


def _mode(value: object) -> str:
    if value is None:
        return MODES[0]
    if not isinstance(value, str) or value not in MODES:
        raise Refusal(f"'mode' must be one of {', '.join(MODES)}.", param="mode")
    return value


def _filter(
    value: object, *, search: Search, types: Mapping[str, ColumnType]
) -> tuple[sql.Composed, tuple[object, ...]]:
    items = [] if value is None else value
    if not isinstance(items, list):
        raise Refusal("'filter' must be a list of conditions.", param="filter")
    if len(items) > MAX_CONDITIONS:
        raise Refusal(
            f"'filter' has {len(items)} conditions; at most {MAX_CONDITIONS} are allowed.",
            param="filter",
        )
    read = [_condition(item, f"filter[{place}]", search) for place, item in enumerate(items)]
    try:
        where, values = conditions.clauses(read, types, table=ALIAS)
    except conditions.UnfitConditionError as error:
        path = f"filter{error.path}"
        raise Refusal(f"'{path}' {error}.", param=path) from None
    return where, tuple(values)


def _condition(item: Any, path: str, search: Search) -> Condition:
    if isinstance(item, dict):
        for key in item.keys() - _CONDITION_KEYS:
            name = f"{path}.{key[:_MAX_SHOWN]}"
            raise Refusal(f"Unrecognized request argument supplied: {name}", param=name)
    try:
        read = index_document.condition(item, path)
    except InvalidDocument as error:
        raise Refusal(f"{error}.", param=error.path) from None
    if read.column not in search.filter_columns:
        named = ", ".join(search.filter_columns) or "none"
        raise Refusal(
            f"'{path}.column' is no column that this index filters by; those are: {named}.",
            param=f"{path}.column",
        )
    return read
