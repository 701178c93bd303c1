"""The index document: the operator writes it from an EmbeddingIndex, worker and search obey it.

It lies in a ConfigMap and holds no secret: the address of the database, with its password, is a
file beside it. The format only grows, and unknown keys are ignored, as in the policy document.
"""

import functools
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from embedding_contract import json_fields, json_records
from embedding_contract.json_fields import InvalidDocument, Positive, Text, Word, check
from embedding_contract.json_records import REQUIRED, Key

VERSION: Final = 1

OPERATORS: Final = ("=", "!=", "<", ">", "in", "between")
"""Operators of a condition; `in` takes a list, `between` two values, both included."""

MAX_SEARCH_BYTES: Final = 65_536
"""The largest body of a search that a sidecar forwards and a search pod takes."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""The largest answer of a search that a search pod gives and a sidecar passes on."""

Scalar = str | int | float | bool | None
Operator = Annotated[Text, json_fields.one_of(*OPERATORS)]
Columns = Annotated[tuple[Text, ...], check(bool, "must name at least one column")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place for vectors of one space: a column of the table, or a table of its own.

    `column` is the vector column of the indexed table; `table` a side table in the same schema,
    with the key columns and a column `embedding`. Exactly one of them is given.
    `request_dimensions` sends `dimensions` with each request, for models that can be cut short.
    `space` is the space that the policy expects of the model; the space in an answer decides.
    """

    model: Word
    dimensions: Positive
    space: Word
    column: Text | None = None
    table: Text | None = None
    request_dimensions: bool = False


_IN_ONE_PLACE: Final = check(
    lambda target: (target.column is None) != (target.table is None),
    "must name a column or a table, and not both",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition on a column: `operator` is one of `OPERATORS`.

    `value` is a scalar, a list of scalars for `in`, or a list of two for `between`.
    """

    column: Text
    operator: Operator
    # The condition's operator determines its form, so `condition` reads it.
    value: Annotated[Scalar | tuple[Scalar, ...], Key(read=lambda value, _: value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operator:
    operator: Operator


def condition(value: object, path: str) -> Condition:
    """Read one condition.

    Raises:
        InvalidDocument: a field is missing, the operator is unknown, or the value has not the form
            that the operator needs.
    """
    # The first fault named to clients of the search is the operator's.
    takes_list = json_records.read(_Operator, value, path).operator in ("in", "between")
    made = json_records.read(Condition, value, path)
    read = functools.partial(json_fields.items, _scalar) if takes_list else _scalar
    return replace(made, value=read(made.value, f"{path}.value"))


def _scalar(value: object, path: str) -> Scalar:
    if isinstance(value, str):
        return json_fields.string(value, path)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise InvalidDocument(path, "must be a string, a number, true, false or null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a backfill. `requests_per_minute` is for all workers together, None is no limit.

    A text longer than `text_bytes` in UTF-8 is parked and not sent.
    """

    requests_per_minute: Positive | None = None
    batch_rows: Positive = 64
    workers: Positive = 1
    text_bytes: Positive = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Search of the table; `IndexDocument.search` is None where there is none.

    `filter_columns` may be named in filters, `return_columns` come with each result beside the key.
    `text_configuration` is a text search configuration of PostgreSQL, such as simple or english.
    """

    filter_columns: tuple[Text, ...] = ()
    return_columns: tuple[Text, ...] = ()
    text_configuration: Text = "simple"
    statement_timeout_milliseconds: Positive = 2_000
    connections: Positive = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDocument:
    """A whole index as worker and search see it.

    `target` is the one for searches; `failover_target` is kept filled as well, for answers of
    the space that the policy fails over to. `applies_plan` lets the worker change the schema;
    `trigger` has the plan install one that marks changed rows at once. `rows` are conditions that
    a row must fulfil to be embedded. Text columns are joined by an empty line, NULL left out.
    `drops` names targets that the user gave up by annotation: the worker drops them.
    """

    # Read first: a document of another version may have any other form.
    version: Annotated[
        int, json_records.version(VERSION, reader="program"), Key(absent=REQUIRED)
    ] = VERSION
    namespace: Annotated[Text, Key("index.namespace")]
    name: Annotated[Text, Key("index.name")]
    uid: Annotated[Text, Key("index.uid")]
    policy: Text
    schema: Annotated[Text, Key("table.schema")]
    table: Annotated[Text, Key("table.name")]
    key_columns: Annotated[Columns, Key("table.keyColumns")]
    text_columns: Annotated[Columns, Key("table.textColumns")]
    target: Annotated[Target, _IN_ONE_PLACE]
    failover_target: Annotated[Target, _IN_ONE_PLACE] | None = None
    rows: Annotated[
        tuple[Condition, ...], Key(read=functools.partial(json_fields.items, condition))
    ] = ()
    limits: Limits = field(default_factory=Limits)
    search: Search | None = None
    applies_plan: bool = False
    trigger: bool = False
    drops: tuple[Text, ...] = ()

    def target_id(self, target: Target) -> str:
        """The name of a target in the database: schema, table and, for a column, its name."""
        return target_id(self.schema, self.table, column=target.column, own_table=target.table)


def target_id(schema: str, table: str, *, column: str | None, own_table: str | None) -> str:
    """The name of a target of this table: one of its columns, or a table of its own."""
    return f"{schema}.{table}.{column}" if own_table is None else f"{schema}.{own_table}"


parse: Final = functools.partial(json_records.parse, IndexDocument)
"""Reads a document. Raises InvalidDocument, also for another version."""
dump: Final = json_records.dump
