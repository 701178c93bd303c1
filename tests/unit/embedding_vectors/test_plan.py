"""From facts and a document to a plan, or to refusals: no database."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract.index_document import Condition, IndexDocument, Search, Target
from embedding_vectors.database.facts import (
    Column,
    Extension,
    Facts,
    IndexFacts,
    TableFacts,
    TargetRow,
)
from embedding_vectors.schema import naming, plan

TARGET = Target(model="small", dimensions=8, space="small@8", column="embedding")
DOCUMENT = IndexDocument(
    namespace="shop",
    name="docs",
    uid="uid-1",
    policy="main",
    schema="public",
    table="docs",
    key_columns=("id",),
    text_columns=("body",),
    target=TARGET,
)
ALL_RIGHTS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REFERENCES", "TRIGGER"})
TABLE = TableFacts(
    schema="public",
    name="docs",
    columns=(
        Column(name="id", type="bigint", category="N"),
        Column(name="body", type="text", category="S"),
    ),
    primary_key=("id",),
    owner="owner",
    rights=ALL_RIGHTS,
    updates=frozenset({"id", "body"}),
)
FACTS = Facts(
    role="worker",
    extension=Extension(version="0.8.6", schema="public"),
    tables=(TABLE,),
    text_configurations=frozenset({"simple", "english"}),
)
ROW = TargetRow(
    id="public.docs.embedding",
    index_uid="uid-1",
    index_name="shop/docs",
    model="small",
    dimensions=8,
    space="small@8",
    phase="Filling",
    column="embedding",
    table=None,
)


def with_table(**changes) -> Facts:
    return dataclasses.replace(FACTS, tables=(dataclasses.replace(TABLE, **changes),))


def with_column(name: str, type_name: str, *, index: IndexFacts | None = None) -> Facts:
    column = Column(name=name, type=type_name, category="U")
    return with_table(
        columns=(*TABLE.columns, column),
        updates=TABLE.updates | {name},
        indexes=(index,) if index else (),
    )


def refused(document: IndexDocument = DOCUMENT, facts: Facts = FACTS) -> list[str]:
    made = plan.make(document, facts)
    assert not (made.refusals and made.steps)
    return [it.reason for it in made.refusals]


def target(**changes) -> IndexDocument:
    return dataclasses.replace(DOCUMENT, target=dataclasses.replace(TARGET, **changes))


def test_sound_database_has_plan():
    assert refused() == []
    names = [it.name for it in plan.make(DOCUMENT, FACTS).pending]
    assert names == [
        "table embedding_target",
        "table embedding_state",
        "table embedding_minute",
        "column embedding",
        "target public.docs.embedding",
        f"index {naming.vector_index(table='docs', column='embedding')}",
    ]


@pytest.mark.parametrize(
    ("version", "reasons", "warned"),
    [
        (None, ["ExtensionMissing"], []),
        ("0.7.4", ["ExtensionTooOld"], []),
        ("0.8.0", [], ["ExtensionHasKnownFaults"]),
        ("0.8.3", [], ["ExtensionHasKnownFaults"]),
        ("0.8.4", [], []),
        ("1.0", [], []),
    ],
)
def test_extension_decides_by_its_version(version, reasons, warned):
    extension = Extension(version=version, schema="public") if version else None
    facts = dataclasses.replace(FACTS, extension=extension)
    assert refused(facts=facts) == reasons
    assert [it.reason for it in plan.make(DOCUMENT, facts).warnings] == warned


@pytest.mark.parametrize(
    ("document", "facts", "reason"),
    [
        (target(dimensions=4001), FACTS, "TooManyDimensions"),
        (DOCUMENT, dataclasses.replace(FACTS, tables=()), "TableMissing"),
        (DOCUMENT, with_table(primary_key=()), "NoPrimaryKey"),
        (DOCUMENT, with_table(primary_key=("body",)), "KeyDiffers"),
        (dataclasses.replace(DOCUMENT, text_columns=("none",)), FACTS, "ColumnMissing"),
        (
            dataclasses.replace(DOCUMENT, search=Search(filter_columns=("none",))),
            FACTS,
            "ColumnMissing",
        ),
        (
            dataclasses.replace(DOCUMENT, rows=(Condition(column="none", operator="=", value=1),)),
            FACTS,
            "ColumnMissing",
        ),
        (dataclasses.replace(DOCUMENT, text_columns=("id",)), FACTS, "ColumnTypeUnsupported"),
        (
            dataclasses.replace(DOCUMENT, search=Search(text_configuration="klingon")),
            FACTS,
            "TextConfigurationMissing",
        ),
        (DOCUMENT, with_column("embedding", "vector(16)"), "DimensionsDiffer"),
        (DOCUMENT, with_column("embedding", "text"), "DimensionsDiffer"),
        (DOCUMENT, with_table(rights=ALL_RIGHTS - {"SELECT"}), "PermissionDenied"),
        (DOCUMENT, with_table(is_owned=False), "PermissionDenied"),
        (DOCUMENT, dataclasses.replace(FACTS, creates_in_schema=False), "PermissionDenied"),
        (DOCUMENT, dataclasses.replace(FACTS, uses_schema=False), "PermissionDenied"),
        (
            DOCUMENT,
            dataclasses.replace(
                FACTS, extension=Extension(version="0.8.6", schema="e", is_usable=False)
            ),
            "PermissionDenied",
        ),
        (
            dataclasses.replace(DOCUMENT, trigger=True),
            with_table(rights=ALL_RIGHTS - {"TRIGGER"}),
            "PermissionDenied",
        ),
        (
            DOCUMENT,
            dataclasses.replace(
                FACTS, targets=(dataclasses.replace(ROW, index_uid="2", index_name="a/b"),)
            ),
            "TargetTaken",
        ),
        (
            dataclasses.replace(DOCUMENT, failover_target=TARGET),
            FACTS,
            "TargetTaken",
        ),
        (
            target(column=None, table="embedding_state"),
            FACTS,
            "TargetTaken",
        ),
        (
            DOCUMENT,
            dataclasses.replace(FACTS, targets=(dataclasses.replace(ROW, space="other@8"),)),
            "SpaceDiffers",
        ),
        (
            DOCUMENT,
            dataclasses.replace(FACTS, targets=(dataclasses.replace(ROW, model="other"),)),
            "SpaceDiffers",
        ),
        (
            DOCUMENT,
            with_table(columns=(Column(name="id", type="bytea", category="U"), TABLE.columns[1])),
            "KeyTypeUnsupported",
        ),
    ],
)
def test_obstacle_is_refused_before_any_statement(document, facts, reason):
    assert reason in refused(document, facts)


def test_missing_right_names_grant():
    (problem,) = plan.make(DOCUMENT, with_table(rights=ALL_RIGHTS - {"SELECT"})).refusals
    assert problem.message.endswith('GRANT SELECT ON "public"."docs" TO "worker"')
    assert problem.sqlstate == "42501"


def test_side_table_needs_no_owner_and_refers_to_table_where_it_may():
    document = target(column=None, table="vectors")
    may = with_table(is_owned=False)
    may_not = with_table(is_owned=False, rights=ALL_RIGHTS - {"REFERENCES"})
    for facts, refers in ((may, True), (may_not, False)):
        steps = plan.make(document, facts).pending
        (made,) = [it for it in steps if it.name == "table vectors"]
        assert ("ON DELETE CASCADE" in made.statements[0].as_string()) is refers


@pytest.mark.parametrize(
    ("dimensions", "type_name"), [(2000, "vector"), (2001, "halfvec"), (4000, "halfvec")]
)
def test_dimensions_decide_type(dimensions, type_name):
    made = plan.make(target(dimensions=dimensions), FACTS)
    said = " ".join(sql.as_string() for it in made.steps for sql in it.statements)
    assert f'"{type_name}"({dimensions})' in said
    assert f"{type_name}_cosine_ops" in said


def test_users_own_index_serves_and_our_invalid_one_is_dropped():
    ours = naming.vector_index(table="docs", column="embedding")
    index = IndexFacts(
        name="their_own",
        method="hnsw",
        columns=("embedding",),
        operator_classes=("vector_cosine_ops",),
        is_valid=True,
    )
    facts = with_column("embedding", "ext.vector(8)", index=index)
    assert f"index {ours}" not in [it.name for it in plan.make(DOCUMENT, facts).pending]
    for changes in ({"operator_classes": ("vector_l2_ops",)}, {"is_valid": False}):
        facts = with_column("embedding", "vector(8)", index=dataclasses.replace(index, **changes))
        assert f"index {ours}" in [it.name for it in plan.make(DOCUMENT, facts).pending]
    broken = dataclasses.replace(index, name=ours, is_valid=False)
    facts = with_column("embedding", "vector(8)", index=broken)
    names = [it.name for it in plan.make(DOCUMENT, facts).pending]
    assert names[-2:] == [f"invalid index {ours}", f"index {ours}"]


def test_index_that_another_session_builds_is_awaited():
    ours = naming.vector_index(table="docs", column="embedding")
    index = IndexFacts(
        name=ours,
        method="hnsw",
        columns=("embedding",),
        operator_classes=("vector_cosine_ops",),
        is_valid=False,
    )
    facts = with_column("embedding", "vector(8)", index=index)
    built = dataclasses.replace(
        facts, tables=(dataclasses.replace(facts.tables[0], is_built=True),)
    )
    assert [it.waits for it in plan.make(DOCUMENT, built).pending][-2:] == [True, False]
    assert not any(it.waits for it in plan.make(DOCUMENT, facts).pending)


def test_retired_target_that_is_named_again_is_filled_again():
    facts = dataclasses.replace(
        with_column("embedding", "vector(8)"),
        targets=(dataclasses.replace(ROW, phase="Retired"),),
    )
    (step,) = [it for it in plan.make(DOCUMENT, facts).pending if it.name.startswith("target ")]
    assert "'Filling'" in step.statements[0].as_string()


def test_only_retired_target_of_index_that_nothing_names_is_dropped():
    document = dataclasses.replace(DOCUMENT, drops=("public.docs.old", "public.docs.embedding"))
    old = dataclasses.replace(ROW, id="public.docs.old", phase="Retired")
    current = dataclasses.replace(ROW, phase="Retired")
    serving = dataclasses.replace(old, phase="Switched")
    others = dataclasses.replace(old, index_name="a/b")
    unnamed = dataclasses.replace(old, id="public.docs.other")
    assert plan.droppable(document, (old, current, unnamed)) == (old,)
    assert plan.droppable(document, (serving,)) == ()
    assert plan.droppable(document, (others,)) == ()


MARK = "zq"
"""Of each name below, and of nothing else."""
names = st.text("\"'%; -()$\\aé", max_size=12).map(lambda text: f"{MARK}{text}{MARK}")
QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|E?'(?:[^']|'')*'", re.DOTALL)


def inside(literal: str) -> str:
    """The text of a function, out of the literal that it is created by."""
    escaped = literal.startswith("E")
    text = literal[2 if escaped else 1 : -1].replace("''", "'")
    return text.replace("\\\\", "\\") if escaped else text


@st.composite
def cases(draw) -> tuple[IndexDocument, Facts]:
    keys = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    texts = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    table, schema, role, extension = (draw(names) for _ in range(4))
    spaces = draw(st.integers(min_value=1, max_value=5000))

    def place() -> Target:
        is_side = draw(st.booleans())
        name = draw(names)
        return Target(
            model=draw(names),
            dimensions=spaces,
            space=draw(names),
            column=None if is_side else name,
            table=name if is_side else None,
        )

    document = IndexDocument(
        namespace=draw(names),
        name=draw(names),
        uid=draw(names),
        policy="main",
        schema=schema,
        table=table,
        key_columns=tuple(keys),
        text_columns=tuple(texts),
        target=place(),
        failover_target=place() if draw(st.booleans()) else None,
        rows=(Condition(column=texts[0], operator="=", value=draw(names)),),
        search=Search(text_configuration="simple") if draw(st.booleans()) else None,
        trigger=draw(st.booleans()),
    )
    there = draw(st.sets(st.sampled_from([*keys, *texts]))) if draw(st.booleans()) else set()
    columns = tuple(
        Column(name=it, type="text", category="S")
        for it in dict.fromkeys([*keys, *texts])
        if it not in there
    )
    known = TableFacts(
        schema=schema,
        name=table,
        columns=columns,
        primary_key=tuple(reversed(keys)) if not there else (),
        owner=draw(names),
        is_owned=draw(st.booleans()),
        rights=ALL_RIGHTS if draw(st.booleans()) else frozenset({"SELECT"}),
        updates=frozenset(it.name for it in columns),
    )
    return document, Facts(
        role=role,
        extension=Extension(version="0.8.6", schema=extension),
        tables=(known,),
        text_configurations=frozenset({"simple"}),
    )


@given(cases())
def test_any_document_has_plan_or_refusal_and_no_name_stands_unquoted(case):
    document, facts = case
    made = plan.make(document, facts)
    assert bool(made.steps) is not bool(made.refusals)
    for step in made.steps:
        assert step.statements
        for statement in step.statements:
            said = statement.as_string()
            assert MARK not in QUOTED.sub("", said)
            for body in filter(lambda it: "BEGIN" in it, QUOTED.findall(said)):
                assert MARK not in QUOTED.sub("", inside(body))
    for problem in made.refusals:
        assert problem.reason.isalnum()


@given(names, names)
def test_names_of_indexes_fit_and_differ(table, column):
    name = naming.vector_index(table=table * 5, column=column)
    assert len(name.encode()) <= naming.MAX_BYTES
    assert name != naming.vector_index(table=table * 5, column=column + "x")
