"""Reasons to refuse a plan: each from the facts alone, before anything is changed."""

from collections.abc import Iterator
from typing import Final

from psycopg.sql import SQL, Identifier

from embedding_contract.index_document import IndexDocument, Target
from embedding_contract.index_report import Problem
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import TEXT_CATEGORY, Facts, TableFacts, TargetRow
from embedding_vectors.schema import rights, statements
from embedding_vectors.schema.expressions import EMBEDDING_COLUMN

LEAST_VERSION: Final = (0, 8, 0)
"""The first version with iterative scans; without, filtered searches return too few rows."""
SOUND_VERSION: Final = (0, 8, 4)
KEY_TYPES: Final = ("smallint", "integer", "bigint", "numeric", "uuid")
"""Key types beside text: their text is the same in each session, whatever its settings."""


def of(document: IndexDocument, facts: Facts) -> Iterator[Problem]:
    """The problems that prevent a plan."""
    yield from _extension(facts)
    for target in statements.targets_of(document):
        if target.dimensions > statements.HALFVEC_MOST:
            yield Problem(
                reason="TooManyDimensions",
                message=f"{target.model} has {target.dimensions}, an index takes at most "
                f"{statements.HALFVEC_MOST}; ask the model for fewer",
            )
    places = [document.target_id(it) for it in statements.targets_of(document)]
    if len(set(places)) < len(places):
        yield Problem(reason="TargetTaken", message="target and failover target are the same place")
    table = facts.table(document.table)
    if table is None:
        yield Problem(
            reason="TableMissing",
            message=f"no table {document.schema}.{document.table} that the role may see",
        )
        return
    yield from _table(document, table)
    for target in statements.targets_of(document):
        yield from _target(document, facts, table, target)
    yield from rights.missing(document, facts, table)
    configuration = document.search.text_configuration if document.search else None
    if configuration is not None and configuration not in facts.text_configurations:
        yield Problem(
            reason="TextConfigurationMissing",
            message=f"the database has no text search configuration {configuration}",
        )


def warnings(document: IndexDocument, facts: Facts) -> Iterator[Problem]:
    """The problems worth knowing although everything works."""
    if facts.extension is not None and (
        LEAST_VERSION <= _version(facts.extension.version) < SOUND_VERSION
    ):
        yield Problem(
            reason="ExtensionHasKnownFaults",
            message=f"pgvector {facts.extension.version}: 0.8.2 repairs a buffer overflow in "
            "parallel HNSW builds, 0.8.3 indexes that vacuum corrupted, 0.8.4 graphs that were "
            "not repaired; update it, then REINDEX",
            is_warning=True,
        )
    table = facts.table(document.table)
    if table is not None and document.search is not None and not table.is_owned:
        yield rights.denied(
            f"an index for text search needs the owner of {_name(document, table)}: without it "
            "text is searched row by row",
            SQL("GRANT {} TO {}").format(Identifier(table.owner), Identifier(facts.role)),
            is_warning=True,
        )


def _extension(facts: Facts) -> Iterator[Problem]:
    if facts.extension is None:
        yield Problem(
            reason="ExtensionMissing", message="pgvector is not there: CREATE EXTENSION vector"
        )
    elif _version(facts.extension.version) < LEAST_VERSION:
        yield Problem(
            reason="ExtensionTooOld",
            message=f"pgvector is {facts.extension.version}, needed is 0.8.0 for iterative scans",
        )


def _table(document: IndexDocument, table: TableFacts) -> Iterator[Problem]:
    if not table.primary_key:
        yield Problem(reason="NoPrimaryKey", message=f"{_name(document, table)} has no primary key")
    elif set(table.primary_key) != set(document.key_columns):
        yield Problem(
            reason="KeyDiffers",
            message=f"the primary key is {', '.join(table.primary_key)}, the index names "
            f"{', '.join(document.key_columns)}",
        )
    for key in table.primary_key:
        column = table.column(key)
        if column is not None and not _is_key_type(column.type, column.category):
            yield Problem(
                reason="KeyTypeUnsupported",
                message=f"column {key} is {column.type}; a key is text, a number or a uuid",
            )
    wanted = (*document.key_columns, *document.text_columns, *(it.column for it in document.rows))
    search = document.search
    if search is not None:
        wanted = (*wanted, *search.filter_columns, *search.return_columns)
    for name in dict.fromkeys(wanted):
        if table.column(name) is None:
            yield Problem(
                reason="ColumnMissing", message=f"{_name(document, table)} has no column {name}"
            )
    for name in document.text_columns:
        column = table.column(name)
        if column is not None and column.category != TEXT_CATEGORY:
            yield Problem(
                reason="ColumnTypeUnsupported", message=f"column {name} is {column.type}, no text"
            )


def _target(
    document: IndexDocument, facts: Facts, table: TableFacts, target: Target
) -> Iterator[Problem]:
    place = document.target_id(target)
    row = next((it for it in facts.targets if it.id == place), None)
    if row is not None:
        yield from _registered(document, target, row)
    side = facts.table(target.table) if target.table is not None else None
    if target.table == document.table or target.table in bookkeeping.TABLES:
        yield Problem(reason="TargetTaken", message=f"{place} is a table of another use")
        return
    holder = side if target.table is not None else table
    column = holder.column(target.column or EMBEDDING_COLUMN) if holder is not None else None
    wanted = statements.type_name(target.dimensions)
    if column is not None and column.type.rsplit(".", 1)[-1] != wanted:
        yield Problem(
            reason="DimensionsDiffer",
            message=f"{place} is {column.type}, the space needs {wanted}",
        )
    if side is not None and (
        column is None
        or any(
            (found := side.column(it.name)) is None or found.type != it.type
            for it in table.columns
            if it.name in table.primary_key
        )
        or set(side.primary_key) != set(table.primary_key)
    ):
        yield Problem(
            reason="KeyDiffers",
            message=f"{place} is there, and is no side table of {_name(document, table)}",
        )


def _registered(document: IndexDocument, target: Target, row: TargetRow) -> Iterator[Problem]:
    # An index that was deleted and applied again has another UID and the same name.
    if row.index_uid != document.uid and row.index_name != statements.owner_name(document):
        yield Problem(
            reason="TargetTaken", message=f"{row.id} belongs to the index {row.index_name}"
        )
    elif row.space != target.space or row.model != target.model:
        yield Problem(
            reason="SpaceDiffers",
            message=f"{row.id} holds vectors of {row.space} ({row.model}), the index wants "
            f"{target.space} ({target.model}): name another target for them",
        )
    elif row.dimensions != target.dimensions:
        yield Problem(
            reason="DimensionsDiffer",
            message=f"{row.id} has {row.dimensions} dimensions, the space {target.dimensions}",
        )


def _is_key_type(type_name: str, category: str) -> bool:
    return category == TEXT_CATEGORY or type_name.split("(", maxsplit=1)[0] in KEY_TYPES


def _name(document: IndexDocument, table: TableFacts) -> str:
    return f"{document.schema}.{table.name}"


def _version(text: str) -> tuple[int, ...]:
    numbers = (part for part in text.split("."))
    return tuple(int(part) if part.isdecimal() else 0 for part in numbers)
