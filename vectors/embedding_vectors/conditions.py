"""Conditions on columns as SQL: values are parameters, and a column's type decides what fits.

The types are PostgreSQL's own, as pg_catalog lists them; a JSON value that a type cannot hold is
refused before the database sees it.
"""

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from psycopg import sql

from embedding_contract.index_document import Condition, Scalar
from embedding_vectors.schema.expressions import doubled

MAX_VALUES: Final = 1_000
"""The most values of a condition `in`."""
MAX_TEXT_BYTES: Final = 32_768
"""The longest value that is text."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INTEGER_BITS: Final = MappingProxyType({"int2": 16, "int4": 32, "int8": 64})
_TEXTS: Final = frozenset({"text", "varchar", "bpchar"})
"""`name` is left out: a cast to it cuts a longer text, which would then match another."""
_MAX_FLOAT4: Final = 3.4028234e38
_SIMPLE: Final = MappingProxyType(
    {"=": sql.SQL("="), "<": sql.SQL("<"), ">": sql.SQL(">"), "!=": sql.SQL("IS DISTINCT FROM")}
)


class UnfitConditionError(ValueError):
    """A condition that does not fit its column; `path` begins at the condition."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnType:
    """A type of PostgreSQL. `schema` and `name` are pg_type's, for a domain those of its base.

    `labels` are those of an enumeration, None for any other type.
    """

    schema: str
    name: str
    labels: tuple[str, ...] | None = None

    @property
    def as_sql(self) -> sql.Composable:
        """The name of the type in a statement."""
        return doubled(sql.Identifier(self.schema, self.name))

    @property
    def is_ordered(self) -> bool:
        """True if `<`, `>` and `between` mean anything to people."""
        return self.name != "bool" and self.labels is None


def clause(
    condition: Condition, column_type: ColumnType, *, table: str
) -> tuple[sql.Composed, list[object]]:
    """A condition as SQL on a column of the table with this alias, and its parameters.

    `!=` holds for NULL as well, which is no value; `= null` finds NULL.

    Raises:
        UnfitConditionError: the value or the operator does not fit the column's type.
    """
    column, operator, value = condition.column, condition.operator, condition.value
    read = _reader(column_type)
    if read is None:
        raise UnfitConditionError(
            "column", f"has the type {column_type.name}, which a filter cannot compare"
        )
    name, cast = doubled(sql.Identifier(table, column)), column_type.as_sql
    if operator in ("<", ">", "between") and not column_type.is_ordered:
        raise UnfitConditionError(
            "operator", f"must be =, != or in for a column of the type {column_type.name}"
        )
    if operator == "in":
        values = _values(value, read)
        return sql.SQL("{} = ANY (%s::{}[])").format(name, cast), [values]
    if operator == "between":
        bounds = _values(value, read)
        if len(bounds) != 2:  # noqa: PLR2004 - a lower and an upper one
            raise UnfitConditionError("value", "must be a list of two values")
        return sql.SQL("{} BETWEEN %s::{} AND %s::{}").format(name, cast, cast), bounds
    if value is None:
        if operator not in ("=", "!="):
            raise UnfitConditionError("value", "can be null for = and != only")
        test = "IS NULL" if operator == "=" else "IS NOT NULL"
        return sql.SQL("{} {}").format(name, sql.SQL(test)), []
    if isinstance(value, tuple):
        raise UnfitConditionError("value", f"must be a single value for {operator}")
    shape = sql.SQL("{} {} %s::{}").format(name, _SIMPLE[operator], cast)
    return shape, [_one(value, read, "value")]


def clauses(
    conditions: Sequence[Condition], types: Mapping[str, ColumnType], *, table: str
) -> tuple[sql.Composed, list[object]]:
    """All conditions, joined by AND; `TRUE` for none.

    Raises:
        UnfitConditionError: one does not fit; `path` begins with its index, as `[2].value`.
    """
    parts: list[sql.Composable] = []
    values: list[object] = []
    for place, condition in enumerate(conditions):
        column_type = types.get(condition.column)
        if column_type is None:
            raise UnfitConditionError(f"[{place}].column", "is no column of the table")
        try:
            made, its_values = clause(condition, column_type, table=table)
        except UnfitConditionError as error:
            raise UnfitConditionError(f"[{place}].{error.path}", str(error)) from None
        parts.append(made)
        values += its_values
    return sql.SQL(" AND ").join(parts or [sql.SQL("TRUE")]), values


_Read = Callable[[Scalar], object]


def _values(value: Scalar | tuple[Scalar, ...], read: _Read) -> list[object]:
    if not isinstance(value, tuple):
        raise UnfitConditionError("value", "must be a list")
    if len(value) > MAX_VALUES:
        raise UnfitConditionError("value", f"has {len(value)} values; {MAX_VALUES} are allowed")
    return [_one(it, read, f"value[{place}]") for place, it in enumerate(value)]


def _one(value: Scalar, read: _Read, path: str) -> object:
    try:
        return read(value)
    except ValueError as error:
        raise UnfitConditionError(path, str(error)) from None


def _reader(column_type: ColumnType) -> _Read | None:
    """The function that turns a value into a parameter; it raises ValueError for an unfit one."""
    if column_type.labels is not None:
        labels = frozenset(column_type.labels)
        return lambda value: _label(value, labels)
    if column_type.schema != "pg_catalog":
        return None
    if column_type.name in _INTEGER_BITS:
        bits = _INTEGER_BITS[column_type.name]
        return lambda value: _integer(value, bits)
    if column_type.name in _TEXTS:
        return _text
    return _READERS.get(column_type.name)


def _label(value: Scalar, labels: frozenset[str]) -> str:
    if not isinstance(value, str) or value not in labels:
        raise ValueError("must be one of the values of the column's enumeration")
    return value


def _integer(value: Scalar, bits: int) -> int:
    most = 2 ** (bits - 1)
    if not isinstance(value, int) or isinstance(value, bool) or not -most <= value < most:
        raise ValueError(f"must be an integer of {bits} bits")
    return value


def _number(value: Scalar) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def _float4(value: Scalar) -> int | float:
    number = _number(value)
    if abs(number) > _MAX_FLOAT4:
        raise ValueError("must be a number that a column of 4 bytes can hold")
    return number


def _boolean(value: Scalar) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - as all that does not fit
    return value


def _text(value: Scalar) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 - as all that does not fit
    if "\0" in value:
        raise ValueError("must hold no character U+0000, which PostgreSQL cannot store")
    if len(value.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"must have at most {MAX_TEXT_BYTES} bytes")
    return value


def _uuid(value: Scalar) -> uuid.UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError("must be a UUID")
    return uuid.UUID(value)


def _date(value: Scalar) -> dt.date:
    try:
        return dt.date.fromisoformat(_text(value))
    except ValueError:
        raise ValueError("must be a date, as 2026-11-29") from None


def _timestamp(value: Scalar) -> dt.datetime:
    read = _datetime(value)
    if read is None or read.tzinfo is not None:
        raise ValueError("must be a date and time without an offset, as 2026-11-29T23:30:00")
    return read


def _moment(value: Scalar) -> dt.datetime:
    read = _datetime(value)
    if read is None or read.tzinfo is None:
        raise ValueError("must be a date and time with an offset, as 2026-11-29T23:30:00Z")
    return read


def _datetime(value: Scalar) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(_text(value))
    except ValueError:
        return None


_READERS: Final[Mapping[str, _Read]] = MappingProxyType(
    {
        "numeric": _number,
        "float4": _float4,
        "float8": _number,
        "bool": _boolean,
        "uuid": _uuid,
        "date": _date,
        "timestamp": _timestamp,
        "timestamptz": _moment,
    }
)
