"""The index document: what the operator writes of an EmbeddingIndex, and worker and search obey.

It lies in a ConfigMap and holds no secret: the address of the database, with its password, is a
file beside it. The format only grows, and unknown keys are ignored, as in the policy document.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import json_fields as fields
from embedding_contract.json_fields import InvalidDocument

VERSION: Final = 1

OPERATORS: Final = ("=", "!=", "<", ">", "in", "between")
"""What a condition may compare with; `in` takes a list, `between` two values, both included."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place for vectors of one space: a column of the table, or a table of its own.

    `column` is the vector column of the indexed table; `table` a side table in the same schema,
    with the key columns and a column `embedding`. Exactly one of them is given.
    `request_dimensions` sends `dimensions` with each request, for models that can be cut short.
    `space` is the space that the policy expects of the model; what an answer says decides.
    """

    model: str
    dimensions: int
    space: str
    column: str | None = None
    table: str | None = None
    request_dimensions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition on a column: `operator` is one of `OPERATORS`.

    `value` is a scalar, a list of scalars for `in`, or a list of two for `between`.
    """

    column: str
    operator: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a backfill may take. `requests_per_minute` is for all workers together, None for none.

    A text longer than `text_bytes` in UTF-8 is parked and not sent.
    """

    requests_per_minute: int | None = None
    batch_rows: int = 64
    workers: int = 1
    text_bytes: int = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How the table is searched; None for `Document.search` where it is not.

    `filter_columns` may be named in filters, `return_columns` come with each result beside the key.
    `text_configuration` is a text search configuration of PostgreSQL, such as simple or english.
    """

    filter_columns: tuple[str, ...] = ()
    return_columns: tuple[str, ...] = ()
    text_configuration: str = "simple"
    statement_timeout_milliseconds: int = 2_000
    connections: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDocument:
    """A whole index as worker and search see it.

    `target` is what searches are to use; `failover_target` is kept filled as well, for answers of
    the space that the policy fails over to. `applies_plan` lets the worker change the schema;
    `trigger` has the plan install one that marks changed rows at once. `rows` are conditions that
    a row must fulfil to be embedded. Text columns are joined by an empty line, NULL left out.
    `drops` names targets that the user gave up by annotation: the worker drops them.
    """

    namespace: str
    name: str
    uid: str
    policy: str
    schema: str
    table: str
    key_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    target: Target
    failover_target: Target | None = None
    rows: tuple[Condition, ...] = ()
    limits: Limits = field(default_factory=Limits)
    search: Search | None = None
    applies_plan: bool = False
    trigger: bool = False
    drops: tuple[str, ...] = ()

    def target_id(self, target: Target) -> str:
        """The name of a target in the database: schema, table and, for a column, its name."""
        return target_id(
            schema=self.schema,
            table=self.table,
            target_column=target.column,
            target_table=target.table,
        )


def target_id(
    *, schema: str, table: str, target_column: str | None, target_table: str | None
) -> str:
    """The name of a target of this table: one of its columns, or a table of its own."""
    if target_table is not None:
        return f"{schema}.{target_table}"
    return f"{schema}.{table}.{target_column}"


def parse(text: str | bytes) -> IndexDocument:
    """Read a document.

    Raises:
        InvalidDocument: it is no JSON object, a field is missing or of the wrong type, or its
            version is another.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument("", f"not JSON: {error}") from None
    root = fields.Object(raw, "")
    version = root.get("version", fields.integer)
    if version != VERSION:
        raise InvalidDocument("version", f"this reader knows {VERSION}, the document is {version}")
    index, table = root.child("index"), root.child("table")
    return IndexDocument(
        namespace=index.get("namespace", fields.text),
        name=index.get("name", fields.text),
        uid=index.get("uid", fields.text),
        policy=root.get("policy", fields.text),
        schema=table.get("schema", fields.text),
        table=table.get("name", fields.text),
        key_columns=table.get("keyColumns", _some_texts),
        text_columns=table.get("textColumns", _some_texts),
        target=root.get("target", _target),
        failover_target=root.get("failoverTarget", fields.nullable(_target), default=None),
        rows=root.get("rows", _conditions, default=()),
        limits=_limits(root.child("limits")),
        search=root.get("search", fields.nullable(_search), default=None),
        applies_plan=root.get("appliesPlan", fields.boolean, default=False),
        trigger=root.get("trigger", fields.boolean, default=False),
        drops=root.get("drops", fields.texts, default=()),
    )


def dump(document: IndexDocument) -> str:
    """The document as JSON text, the same text for the same document."""
    search = document.search
    body = {
        "version": VERSION,
        "index": {"namespace": document.namespace, "name": document.name, "uid": document.uid},
        "policy": document.policy,
        "table": {
            "schema": document.schema,
            "name": document.table,
            "keyColumns": list(document.key_columns),
            "textColumns": list(document.text_columns),
        },
        "target": _target_body(document.target),
        "failoverTarget": document.failover_target and _target_body(document.failover_target),
        "rows": [
            {"column": it.column, "operator": it.operator, "value": it.value}
            for it in document.rows
        ],
        "limits": {
            "requestsPerMinute": document.limits.requests_per_minute,
            "batchRows": document.limits.batch_rows,
            "workers": document.limits.workers,
            "textBytes": document.limits.text_bytes,
        },
        "search": search
        and {
            "filterColumns": list(search.filter_columns),
            "returnColumns": list(search.return_columns),
            "textConfiguration": search.text_configuration,
            "statementTimeoutMilliseconds": search.statement_timeout_milliseconds,
            "connections": search.connections,
        },
        "appliesPlan": document.applies_plan,
        "trigger": document.trigger,
        "drops": list(document.drops),
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _target_body(target: Target) -> Mapping[str, Any]:
    return {
        "model": target.model,
        "dimensions": target.dimensions,
        "space": target.space,
        "column": target.column,
        "table": target.table,
        "requestDimensions": target.request_dimensions,
    }


def _target(value: object, path: str) -> Target:
    item = fields.Object(value, path)
    target = Target(
        model=item.get("model", fields.word),
        dimensions=item.get("dimensions", fields.positive),
        space=item.get("space", fields.word),
        column=item.get("column", fields.nullable(fields.text), default=None),
        table=item.get("table", fields.nullable(fields.text), default=None),
        request_dimensions=item.get("requestDimensions", fields.boolean, default=False),
    )
    if (target.column is None) == (target.table is None):
        raise InvalidDocument(path, "must name a column or a table, and not both")
    return target


def _limits(item: fields.Object) -> Limits:
    return Limits(
        requests_per_minute=item.get(
            "requestsPerMinute", fields.nullable(fields.positive), default=None
        ),
        batch_rows=item.get("batchRows", fields.positive, default=64),
        workers=item.get("workers", fields.positive, default=1),
        text_bytes=item.get("textBytes", fields.positive, default=32_768),
    )


def _search(value: object, path: str) -> Search:
    item = fields.Object(value, path)
    return Search(
        filter_columns=item.get("filterColumns", fields.texts, default=()),
        return_columns=item.get("returnColumns", fields.texts, default=()),
        text_configuration=item.get("textConfiguration", fields.text, default="simple"),
        statement_timeout_milliseconds=item.get(
            "statementTimeoutMilliseconds", fields.positive, default=2_000
        ),
        connections=item.get("connections", fields.positive, default=8),
    )


def _some_texts(value: object, path: str) -> tuple[str, ...]:
    found = fields.texts(value, path)
    if not found:
        raise InvalidDocument(path, "must name at least one column")
    return found


def _conditions(value: object, path: str) -> tuple[Condition, ...]:
    return tuple(
        condition(item, f"{path}[{index}]") for index, item in enumerate(fields.array(value, path))
    )


def condition(value: object, path: str) -> Condition:
    """Read one condition.

    Raises:
        InvalidDocument: a field is missing, the operator is unknown, or the value has not the form
            that the operator needs.
    """
    item = fields.Object(value, path)
    operator = item.get("operator", fields.text)
    if operator not in OPERATORS:
        raise InvalidDocument(f"{path}.operator", f"must be one of {' '.join(OPERATORS)}")
    return Condition(
        column=item.get("column", fields.text),
        operator=operator,
        value=item.get("value", _values if operator in ("in", "between") else _scalar),
    )


def _values(value: object, path: str) -> tuple[Scalar, ...]:
    return tuple(
        _scalar(item, f"{path}[{index}]") for index, item in enumerate(fields.array(value, path))
    )


def _scalar(value: object, path: str) -> Scalar:
    if isinstance(value, str):
        return fields.string(value, path)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise InvalidDocument(path, "must be a string, a number, true, false or null")
