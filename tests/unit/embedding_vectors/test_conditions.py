"""Conditions as SQL: values that fit a column's type, and that no value is part of a statement."""

import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract.index_document import OPERATORS, Condition
from embedding_vectors import conditions
from embedding_vectors.conditions import ColumnType, UnfitConditionError


def own(name: str) -> ColumnType:
    return ColumnType(schema="pg_catalog", name=name)


MOOD = ColumnType(schema="public", name="mood", labels=("calm", "cross"))
TYPES = {
    **{
        name: own(name)
        for name in (
            *("int2", "int4", "int8", "numeric", "float4", "float8"),
            *("text", "varchar", "bpchar", "bool", "uuid", "date", "timestamp", "timestamptz"),
        )
    },
    "mood": MOOD,
}
FIT = {
    "int2": (-32768, 32767),
    "int4": (0, 2**31 - 1),
    "int8": (-(2**63), 5),
    "numeric": (1, 0.5),
    "float4": (0, 3.4e38),
    "float8": (1e300, -1),
    "text": ("", "a'); DROP TABLE docs; --"),
    "varchar": ("x", "%s"),
    "bpchar": ("x", "ß"),
    "bool": (True, False),
    "uuid": ("5e0c9e0c-6a3f-4f0e-9a52-3b0f1d8f7c11", "5E0C9E0C-6A3F-4F0E-9A52-3B0F1D8F7C12"),
    "date": ("2026-11-29", "0001-01-01"),
    "timestamp": ("2026-11-29T23:30:00", "2026-11-29"),
    "timestamptz": ("2026-11-29T23:30:00Z", "2026-11-29T23:30:00+05:30"),
    "mood": ("calm", "cross"),
}
UNFIT = {
    "int2": (32768, "1", True, 1.0),
    "int4": (2**31, -(2**31) - 1, False, "x"),
    "int8": (2**63, 1.5),
    "numeric": ("1", True, float("inf")),
    "float4": (3.5e38, "1"),
    "float8": ("NaN", False),
    "text": (1, True, "a\0b", "x" * 32_769),
    "varchar": (0,),
    "bpchar": (1.5,),
    "bool": (0, 1, "true"),
    "uuid": ("x", 5, "{5e0c9e0c-6a3f-4f0e-9a52-3b0f1d8f7c11}"),
    "date": ("29.11.2026", "2026-13-01", 20261129),
    "timestamp": ("2026-11-29T23:30:00Z", "now", 0),
    "timestamptz": ("2026-11-29T23:30:00", "infinity"),
    "mood": ("CALM", "", 1),
}


def made(name: str, operator: str, value: object):
    wanted = Condition(column=name, operator=operator, value=value)  # type: ignore[arg-type]
    text, values = conditions.clause(wanted, TYPES[name], table="t")
    return text.as_string(), values


@pytest.mark.parametrize("name", FIT)
def test_values_that_fit_are_parameters(name):
    for value in FIT[name]:
        text, (bound,) = made(name, "=", value)
        schema = "public" if name == "mood" else "pg_catalog"
        assert text == f'"t"."{name}" = %s::"{schema}"."{name}"'
        assert bound == value or not isinstance(bound, str | int | float)
    text, (bound,) = made(name, "in", FIT[name])
    assert text.startswith(f'"t"."{name}" = ANY (%s::')
    assert len(bound) == 2


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNFIT.items() for value in values]
)
def test_values_that_do_not_fit_are_refused_by_their_place(name, value):
    with pytest.raises(UnfitConditionError) as refused:
        made(name, "=", value)
    assert refused.value.path == "value"
    with pytest.raises(UnfitConditionError) as refused:
        made(name, "in", (FIT[name][0], value))
    assert refused.value.path == "value[1]"


def test_null_is_found_and_is_not_another_value():
    assert made("int4", "=", None) == ('"t"."int4" IS NULL', [])
    assert made("int4", "!=", None) == ('"t"."int4" IS NOT NULL', [])
    assert made("int4", "!=", 5)[0] == '"t"."int4" IS DISTINCT FROM %s::"pg_catalog"."int4"'
    for operator in ("<", ">"):
        with pytest.raises(UnfitConditionError):
            made("int4", operator, None)
    with pytest.raises(UnfitConditionError) as refused:
        made("int4", "in", (1, None))
    assert refused.value.path == "value[1]"


def test_order_is_asked_of_ordered_types_only():
    assert made("date", "<", "2026-11-29")[1] == [dt.date(2026, 11, 29)]
    assert made("uuid", ">", FIT["uuid"][0])[1] == [uuid.UUID(str(FIT["uuid"][0]))]
    for name, value in (("bool", True), ("mood", "calm")):
        for operator in ("<", ">", "between"):
            with pytest.raises(UnfitConditionError) as refused:
                made(name, operator, (value, value) if operator == "between" else value)
            assert refused.value.path == "operator"


def test_between_takes_two_values_and_in_takes_1000():
    assert made("int4", "between", (1, 5))[1] == [1, 5]
    for wrong in ((), (1,), (1, 2, 3), 1):
        with pytest.raises(UnfitConditionError):
            made("int4", "between", wrong)
    assert made("int4", "in", tuple(range(1000)))[1] == [list(range(1000))]
    assert made("int4", "in", ())[1] == [[]]
    with pytest.raises(UnfitConditionError):
        made("int4", "in", tuple(range(1001)))
    with pytest.raises(UnfitConditionError):
        made("int4", "=", (1, 2))


@pytest.mark.parametrize("name", ["jsonb", "bytea", "interval", "_int4", "name", "vector"])
def test_types_that_cannot_be_compared_are_refused_by_column(name):
    column_type = ColumnType(schema="pg_catalog", name=name)
    with pytest.raises(UnfitConditionError) as refused:
        conditions.clause(Condition(column="c", operator="=", value="x"), column_type, table="t")
    assert refused.value.path == "column"


def test_type_of_somebody_that_is_called_as_one_of_ours_is_none():
    with pytest.raises(UnfitConditionError):
        conditions.clause(
            Condition(column="c", operator="=", value=1),
            ColumnType(schema="public", name="int4"),
            table="t",
        )


def test_places_of_several_conditions_are_told():
    fits = Condition(column="int4", operator="=", value=1)
    with pytest.raises(UnfitConditionError) as refused:
        conditions.clauses(
            [fits, fits, Condition(column="int4", operator="in", value=(1, "x"))],
            TYPES,
            table="t",
        )
    assert refused.value.path == "[2].value[1]"
    with pytest.raises(UnfitConditionError) as refused:
        conditions.clauses([Condition(column="no", operator="=", value=1)], TYPES, table="t")
    assert refused.value.path == "[0].column"
    assert conditions.clauses([], TYPES, table="t")[0].as_string() == "TRUE"


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(
    name=st.sampled_from(sorted(TYPES)),
    operator=st.sampled_from(OPERATORS),
    value=_SCALARS | st.lists(_SCALARS, max_size=4).map(tuple),
)
def test_text_of_condition_depends_on_column_and_operator_alone(name, operator, value):
    try:
        text, values = made(name, operator, value)
    except UnfitConditionError:
        return
    assert text.count("%s") == len(values)
    samples = FIT[name]
    sample = samples if operator in ("in", "between") else samples[0]
    assert text == (made(name, operator, sample)[0] if value is not None else text)


def test_names_cannot_leave_their_quotes():
    wild = 'a"; DROP TABLE docs; --%s'
    wanted = Condition(column=wild, operator="=", value=1)
    text, _ = conditions.clause(wanted, own("int4"), table="t")
    # %% is what psycopg makes a % of: a name is no placeholder.
    assert text.as_string() == ('"t"."a""; DROP TABLE docs; --%%s" = %s::"pg_catalog"."int4"')
