"""Makes a plan from facts and a document: steps to take, or reasons to take none. No IO.

A plan is made anew after each of its steps, so it resumes wherever it was stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from psycopg.sql import Composed

from embedding_contract.index_document import IndexDocument, Target
from embedding_contract.index_report import Problem
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import Extension, Facts, IndexFacts, TableFacts, TargetRow
from embedding_vectors.schema import expressions, naming, refusals, statements, trigger

_BOOKKEEPING: Final = {
    bookkeeping.TARGET: statements.target_table,
    bookkeeping.STATE: statements.state_table,
    bookkeeping.MINUTE: statements.minute_table,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to be done. `statements` run in one transaction.

    A step that `is_concurrent` has one statement, which runs in none. `waits` is True where another
    session is building the same index.
    """

    name: str
    statements: tuple[Composed, ...] = ()
    is_done: bool = False
    is_concurrent: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in their order, or refusals and no step. `warnings` prevent no step."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that are not done yet."""
        return tuple(it for it in self.steps if not it.is_done)


def tables_of(document: IndexDocument) -> tuple[str, ...]:
    """The tables that a plan must know, beside the side tables of other targets."""
    sides = (it.table for it in statements.targets_of(document) if it.table is not None)
    return (document.table, *bookkeeping.TABLES, *sides)


def make(document: IndexDocument, facts: Facts) -> Plan:
    """The plan of a document for a database with these facts."""
    refused = tuple(refusals.of(document, facts))
    warned = tuple(refusals.warnings(document, facts))
    table, extension = facts.table(document.table), facts.extension
    if refused or table is None or extension is None:
        return Plan(refusals=refused, warnings=warned)
    return Plan(steps=tuple(_steps(document, facts, table, extension)), warnings=warned)


def droppable(document: IndexDocument, rows: tuple[TargetRow, ...]) -> tuple[TargetRow, ...]:
    """The targets that the user gave up and that nothing uses: only a retired one is dropped."""
    wanted = {document.target_id(it) for it in statements.targets_of(document)}
    return tuple(
        it
        for it in rows
        if it.id in document.drops
        and it.id not in wanted
        and it.phase == "Retired"
        and it.index_name == statements.owner_name(document)
    )


def _steps(
    document: IndexDocument, facts: Facts, table: TableFacts, extension: Extension
) -> Iterator[Step]:
    for name, create in _BOOKKEEPING.items():
        yield Step(
            name=f"table {name}",
            statements=create(document.schema),
            is_done=facts.table(name) is not None,
        )
    for target in statements.targets_of(document):
        yield _place(document, facts, table, target, extension)
        yield _registration(document, facts, target)
    for target in statements.targets_of(document):
        yield from _vector_index(document, facts, table, target, extension)
    if document.search is not None and table.is_owned:
        yield from _text_index(document, table, document.search.text_configuration)
    yield from _trigger(document, facts, table)


def _place(
    document: IndexDocument,
    facts: Facts,
    table: TableFacts,
    target: Target,
    extension: Extension,
) -> Step:
    type_sql = statements.vector_type(extension, target.dimensions)
    if target.column is not None:
        return Step(
            name=f"column {target.column}",
            statements=(statements.add_column(document, target.column, type_sql),),
            is_done=table.column(target.column) is not None,
        )
    side = target.table or ""
    rows = expressions.source(document, table)
    references = table.is_owned or "REFERENCES" in table.rights
    return Step(
        name=f"table {side}",
        statements=statements.side_table(rows, side, type_sql, references=references),
        is_done=facts.table(side) is not None,
    )


def _registration(document: IndexDocument, facts: Facts, target: Target) -> Step:
    place = document.target_id(target)
    row = next((it for it in facts.targets if it.id == place), None)
    if row is None:
        return Step(name=f"target {place}", statements=(statements.register(document, target),))
    wanted = replace(
        row,
        index_uid=document.uid,
        request_dimensions=target.request_dimensions,
        phase="Filling" if row.phase == "Retired" else row.phase,
    )
    return Step(
        name=f"target {place}",
        statements=(statements.adopt(document, target),),
        is_done=row == wanted,
    )


def _vector_index(
    document: IndexDocument,
    facts: Facts,
    table: TableFacts,
    target: Target,
    extension: Extension,
) -> Iterator[Step]:
    name = target.table or document.table
    column = target.column or expressions.EMBEDDING_COLUMN
    holder = table if target.table is None else facts.table(name)
    index = naming.vector_index(table=name, column=column)
    yield from _index(
        document,
        holder,
        name=index,
        create=statements.create_vector_index(
            document.schema,
            name=index,
            table=name,
            column=column,
            extension=extension,
            dimensions=target.dimensions,
        ),
        is_done=holder is not None and holder.has_vector_index(column),
    )


def _text_index(document: IndexDocument, table: TableFacts, configuration: str) -> Iterator[Step]:
    name = naming.text_index(
        table=document.table, configuration=configuration, columns=document.text_columns
    )
    found = _named(table, name)
    yield from _index(
        document,
        table,
        name=name,
        create=statements.create_text_index(document, name=name, configuration=configuration),
        is_done=found is not None and found.is_valid,
    )


def _index(
    document: IndexDocument,
    holder: TableFacts | None,
    *,
    name: str,
    create: Composed,
    is_done: bool,
) -> Iterator[Step]:
    found = _named(holder, name) if holder is not None else None
    if found is not None and not found.is_valid and not is_done:
        # An invalid index serves no query, and slows each write.
        yield Step(
            name=f"invalid index {name}",
            statements=(statements.drop_index(document.schema, name),),
            is_concurrent=True,
            waits=holder is not None and holder.is_built,
        )
    yield Step(name=f"index {name}", statements=(create,), is_done=is_done, is_concurrent=True)


def _named(table: TableFacts, name: str) -> IndexFacts | None:
    return next((it for it in table.indexes if it.name == name), None)


def _trigger(document: IndexDocument, facts: Facts, table: TableFacts) -> Iterator[Step]:
    wanted = trigger.name(document, table.primary_key) if document.trigger else None
    for name in table.triggers:
        if name.startswith(naming.marks_of(document.uid)) and name != wanted:
            yield Step(name=f"old trigger {name}", statements=trigger.drop(document, name))
    if wanted is not None:
        yield Step(
            name=f"trigger {wanted}",
            statements=trigger.create(document, table.primary_key),
            is_done=wanted in table.triggers and wanted in facts.functions,
        )
