"""Rights that the connected role lacks, each with the GRANT that gives it."""

from collections.abc import Iterator
from typing import Final

from psycopg.sql import SQL, Composable, Identifier

from embedding_contract.index_document import IndexDocument
from embedding_contract.index_report import Problem
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import Facts, TableFacts
from embedding_vectors.schema import statements
from embedding_vectors.schema.expressions import EMBEDDING_COLUMN

WRITES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""The rights needed on the bookkeeping and on side tables."""


def missing(document: IndexDocument, facts: Facts, table: TableFacts) -> Iterator[Problem]:
    """The rights that plan and backfill of the document need and the role lacks."""
    yield from _of_schemas(document, facts)
    yield from _of_table(document, facts, table)
    yield from _of_ownership(document, facts, table)
    yield from _of_own_tables(document, facts)


def denied(what: str, grant: Composable, *, is_warning: bool = False) -> Problem:
    """The problem of a missing right, with the GRANT that gives it."""
    return Problem(
        reason="PermissionDenied",
        message=f"{what}: {grant.as_string()}",
        sqlstate="42501",
        is_warning=is_warning,
    )


def _of_schemas(document: IndexDocument, facts: Facts) -> Iterator[Problem]:
    role = Identifier(facts.role)
    schemas = [] if facts.uses_schema else [document.schema]
    if facts.extension is not None and not facts.extension.is_usable:
        schemas.append(facts.extension.schema)
    for schema in dict.fromkeys(schemas):
        yield denied(
            f"USAGE of the schema {schema}",
            SQL("GRANT USAGE ON SCHEMA {} TO {}").format(Identifier(schema), role),
        )
    makes = (*bookkeeping.TABLES, *_sides(document))
    if any(facts.table(it) is None for it in makes) and not facts.creates_in_schema:
        yield denied(
            f"CREATE on the schema {document.schema}",
            SQL("GRANT CREATE ON SCHEMA {} TO {}").format(Identifier(document.schema), role),
        )


def _of_table(document: IndexDocument, facts: Facts, table: TableFacts) -> Iterator[Problem]:
    role, relation = Identifier(facts.role), Identifier(document.schema, document.table)
    wanted = ["SELECT"] + (["TRIGGER"] if document.trigger else [])
    for right in wanted:
        if right not in table.rights:
            yield denied(
                f"{right} on {document.schema}.{table.name}",
                SQL("GRANT {} ON {} TO {}").format(SQL(right), relation, role),
            )
    for column in _columns(document):
        if table.column(column) is not None and column not in table.updates:
            yield denied(
                f"UPDATE of {document.schema}.{table.name}.{column}",
                SQL("GRANT UPDATE ({}) ON {} TO {}").format(Identifier(column), relation, role),
            )


def _of_ownership(document: IndexDocument, facts: Facts, table: TableFacts) -> Iterator[Problem]:
    indexed = [(table, it) for it in _columns(document)]
    sides = [facts.table(it) for it in _sides(document)]
    indexed += [(it, EMBEDDING_COLUMN) for it in sides if it is not None]
    for holder, column in indexed:
        if not holder.is_owned and not holder.has_vector_index(column):
            hint = "; or name a side table as the target" if holder is table else ""
            yield denied(
                f"a new column or index needs the owner of {document.schema}.{holder.name}{hint}",
                SQL("GRANT {} TO {}").format(Identifier(holder.owner), Identifier(facts.role)),
            )


def _of_own_tables(document: IndexDocument, facts: Facts) -> Iterator[Problem]:
    for name in (*bookkeeping.TABLES, *_sides(document)):
        held = facts.table(name)
        lacks = [it for it in WRITES if held is not None and it not in held.rights]
        if lacks:
            yield denied(
                f"{', '.join(lacks)} on {document.schema}.{name}",
                SQL("GRANT {} ON {} TO {}").format(
                    SQL(", ").join(SQL(it) for it in lacks),
                    Identifier(document.schema, name),
                    Identifier(facts.role),
                ),
            )


def _columns(document: IndexDocument) -> list[str]:
    return [it.column for it in statements.targets_of(document) if it.column is not None]


def _sides(document: IndexDocument) -> list[str]:
    return [it.table for it in statements.targets_of(document) if it.table is not None]
