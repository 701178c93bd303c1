"""The document of an index, and the reasons why an index cannot be carried out."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import index_document
from embedding_operator import errors
from embedding_operator.indexes import documents, resource
from tests.parts import indexes

SPENDING = indexes.SPENDING


def refusal(index, spending=SPENDING, **more):
    with pytest.raises(errors.InvalidPolicy) as refused:
        documents.of(index, spending, **more)
    return refused.value


def target(model="e5", dimensions=384, *, request=False, column="embedding"):
    return {
        "model": model,
        "dimensions": dimensions,
        "requestDimensions": request,
        "column": column,
    }


def test_document_holds_all_that_index_says():
    made = documents.of(indexes.parsed(), SPENDING)
    assert index_document.parse(index_document.dump(made)) == made
    assert (made.schema, made.table, made.key_columns) == ("shop", "articles", ("tenant", "id"))
    assert made.target.space == "openai/text-embedding-3-large@3072"
    assert made.failover_target is not None
    assert made.failover_target.space == "voyage/voyage-4@1024"
    assert [it.value for it in made.rows] == [True, ("en", "de"), (1900, 2000.5)]
    assert made.drops == ("shop.articles.old", "shop.older")
    assert made.search is not None
    assert made.search.filter_columns == ("language", "year")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (target("other"), "ModelMissing"),
        (target(dimensions=1024), "SizesDiffer"),
        (target("text-embedding-3-large", 1024), "SizesDiffer"),
        (target("text-embedding-3-large", 1024, request=True), None),
        (target("small"), None),
    ],
)
def test_target_is_one_that_policy_can_fill(wanted, reason):
    index = indexes.parsed(target=wanted, failoverTarget=None)
    if reason is None:
        assert documents.of(index, SPENDING).target.dimensions == wanted["dimensions"]
    else:
        assert refusal(index).reason == reason


def test_size_that_is_asked_for_is_part_of_space():
    wanted = target("text-embedding-3-large", 1024, request=True)
    made = documents.of(indexes.parsed(target=wanted, failoverTarget=None), SPENDING)
    assert made.target.space == "openai/text-embedding-3-large@1024"


def test_failover_target_of_same_space_is_refused():
    other = target("small", column="second")
    index = indexes.parsed(target=target(), failoverTarget=other)
    assert refusal(index).reason == "SpacesEqual"


@pytest.mark.parametrize(
    ("phase", "space", "refused"),
    [
        ("Switched", "another", True),
        ("Filling", "another", True),
        ("Planned", "another", False),
        ("Switched", "openai/text-embedding-3-large@3072", False),
    ],
)
def test_filled_target_keeps_its_space(phase, space, refused):
    seen = [{"id": "shop.articles.embedding", "phase": phase, "space": space, "model": "m"}]
    if refused:
        assert refusal(indexes.parsed(), seen=seen).reason == "SpacesDiffer"
    else:
        documents.of(indexes.parsed(), SPENDING, seen=seen)


def test_needed_models_are_those_of_targets_and_of_searches():
    seen = [
        {"id": "shop.articles.old", "model": "old-model"},
        {"id": "shop.articles.older", "model": "older-model"},
    ]
    index = indexes.parsed()
    missing = documents.missing_models(index, SPENDING, seen=seen, serving="shop.articles.old")
    assert missing == ("old-model",)
    assert documents.missing_models(index, SPENDING, seen=seen, serving=None) == ()
    alone = dataclasses.replace(SPENDING, providers=SPENDING.providers[:1])
    assert documents.missing_models(index, alone, seen=(), serving=None) == (
        "text-embedding-3-large",
        "voyage-4",
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300)
VALUES = SCALARS | st.lists(SCALARS, max_size=70) | st.dictionaries(st.text(), SCALARS, max_size=2)


@given(st.sampled_from(index_document.OPERATORS), VALUES)
def test_any_value_of_row_is_read_or_refused_by_its_field(operator, value):
    rows = [{"column": "a", "operator": operator, "value": value}]
    try:
        made = indexes.parsed(rows=rows)
    except errors.InvalidPolicy as error:
        refused = str(error)
    else:
        values = made.rows[0].value
        refused = "" if isinstance(values, tuple) and len(values) > resource.VALUES else "read"
    assert refused == "read" or "spec.rows[0].value" in refused
