"""The plan of a migration, key by key: values written, values kept, and the report."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.migration import plan
from embedding_operator.migration.plan import Outcome

KEYS = st.sampled_from("ABCDE")
SOURCES = st.dictionaries(KEYS, st.sampled_from(["", "1", "2"]))
HELD = st.dictionaries(KEYS, st.sampled_from(["", "1", "2", 1, None, {"n": "1"}]))
CHOSEN = st.lists(KEYS, unique=True)


def outcomes(steps) -> dict[str, Outcome]:
    return {step.key: step.outcome for step in steps}


def becomes(source: str | None, held: Mapping[str, object], *, overwrite: bool = False) -> Outcome:
    values = {} if source is None else {"A": source}
    planned = plan.migration(values, held, keys=["A"], overwrite=overwrite)
    return outcomes(planned.steps)["A"]


def test_key_that_vault_lacks_is_written():
    assert becomes("1", {}) is Outcome.WRITTEN


@pytest.mark.parametrize("overwrite", [False, True])
def test_key_that_is_equal_is_left(overwrite):
    assert becomes("1", {"A": "1"}, overwrite=overwrite) is Outcome.EQUAL


def test_key_with_another_value_stays_unless_told_otherwise():
    assert becomes("1", {"A": "2"}) is Outcome.KEPT
    assert becomes("1", {"A": "2"}, overwrite=True) is Outcome.OVERWRITTEN


@pytest.mark.parametrize("held", [1, 1.0, True, None, ["1"], {"n": "1"}])
def test_only_text_is_equal_to_text(held):
    assert becomes("1", {"A": held}) is Outcome.KEPT


def test_key_that_is_asked_for_and_not_there_is_told():
    assert becomes(None, {"A": "1"}) is Outcome.NOT_AT_SOURCE


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("held", [{}, {"A": "1"}])
def test_empty_value_is_never_written(held, overwrite):
    assert becomes("", held, overwrite=overwrite) is Outcome.EMPTY


def test_half_character_in_vault_is_another_value():
    assert becomes("\U0001f642", {"A": "\ud83d"}) is Outcome.KEPT


@given(SOURCES, HELD, CHOSEN, st.booleans())
def test_every_chosen_key_is_told_once_and_in_order(source, held, chosen, overwrite):
    planned = plan.migration(source, held, keys=chosen, overwrite=overwrite)
    assert [step.key for step in planned.steps] == chosen


@given(SOURCES, HELD, CHOSEN, st.booleans())
def test_migration_changes_only_keys_it_reports(source, held, chosen, overwrite):
    planned = plan.migration(source, held, keys=chosen, overwrite=overwrite)
    after = held if planned.content is None else planned.content
    told = outcomes(planned.steps)
    for key in {*held, *after, *source}:
        changes = told.get(key) in {Outcome.WRITTEN, Outcome.OVERWRITTEN}
        assert after.get(key, "absent") == (source[key] if changes else held.get(key, "absent"))
    assert (planned.content is None) == (after == held)


@given(SOURCES, HELD, CHOSEN, st.booleans())
def test_second_migration_writes_nothing(source, held, chosen, overwrite):
    first = plan.migration(source, held, keys=chosen, overwrite=overwrite)
    after = held if first.content is None else first.content
    assert plan.migration(source, after, keys=chosen, overwrite=overwrite).content is None


@given(SOURCES, HELD, CHOSEN, st.booleans())
def test_settled_migration_is_one_that_verifies(source, held, chosen, overwrite):
    first = plan.migration(source, held, keys=chosen, overwrite=overwrite)
    after = held if first.content is None else first.content
    verified = plan.settled(plan.comparison(source, after, keys=chosen))
    assert plan.settled(first.steps) == verified


@given(SOURCES, HELD, CHOSEN)
def test_names_agree_where_values_do(source, held, chosen):
    by_value = outcomes(plan.comparison(source, held, keys=chosen))
    by_name = outcomes(plan.comparison_of_names(source, held, keys=chosen))
    for key in chosen:
        here, there = key in source, key in held
        assert (by_name[key] is Outcome.PRESENT) == (here and there)
        assert (by_value[key] is Outcome.EQUAL) <= (by_name[key] is Outcome.PRESENT)


@given(st.text(), st.text())
def test_comparison_is_equality(wanted, held):
    told = outcomes(plan.comparison({"A": wanted}, {"A": held}, keys=["A"]))["A"]
    assert (told is Outcome.EQUAL) == (wanted == held)


def test_plan_shows_no_value():
    planned = plan.migration({"A": "sk-secret"}, {"B": "sk-held"}, keys=["A"], overwrite=False)
    assert "sk-" not in repr(planned)
