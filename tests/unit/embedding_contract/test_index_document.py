import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import index_document
from embedding_contract.index_document import Condition, IndexDocument, Limits, Search, Target
from embedding_contract.json_fields import InvalidDocument

TEXTS = st.text(min_size=1, max_size=20)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
COLUMNS = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
TARGETS = st.builds(
    Target,
    model=WORDS,
    dimensions=st.integers(1, 4000),
    space=WORDS,
    column=TEXTS,
    table=st.none(),
    request_dimensions=st.booleans(),
) | st.builds(
    Target, model=WORDS, dimensions=st.integers(1, 4000), space=WORDS, column=st.none(), table=TEXTS
)
CONDITIONS = st.builds(
    Condition, column=TEXTS, operator=st.sampled_from(["=", "!=", "<", ">"]), value=SCALARS
) | st.builds(
    Condition,
    column=TEXTS,
    operator=st.sampled_from(["in", "between"]),
    value=st.lists(SCALARS, max_size=3).map(tuple),
)
DOCUMENTS = st.builds(
    IndexDocument,
    namespace=TEXTS,
    name=TEXTS,
    uid=TEXTS,
    policy=TEXTS,
    schema=TEXTS,
    table=TEXTS,
    key_columns=COLUMNS,
    text_columns=COLUMNS,
    target=TARGETS,
    failover_target=st.none() | TARGETS,
    rows=st.lists(CONDITIONS, max_size=2).map(tuple),
    limits=st.builds(
        Limits,
        requests_per_minute=st.none() | st.integers(1, 9),
        batch_rows=st.integers(1, 9),
        workers=st.integers(1, 9),
        text_bytes=st.integers(1, 9),
    ),
    search=st.none()
    | st.builds(Search, filter_columns=COLUMNS, return_columns=COLUMNS, text_configuration=TEXTS),
    applies_plan=st.booleans(),
    trigger=st.booleans(),
    drops=st.lists(TEXTS, max_size=2).map(tuple),
)


def _body():
    target = {"model": "m", "dimensions": 3, "space": "s", "column": "embedding"}
    return {
        "version": 1,
        "index": {"namespace": "shop", "name": "articles", "uid": "u"},
        "policy": "search",
        "table": {"schema": "public", "name": "a", "keyColumns": ["id"], "textColumns": ["t"]},
        "target": target,
    }


@given(DOCUMENTS)
def test_document_is_read_as_it_was_written(document):
    assert index_document.parse(index_document.dump(document)) == document


def test_absent_fields_have_their_defaults():
    found = index_document.parse(json.dumps(_body()))
    assert (found.limits, found.search, found.applies_plan) == (Limits(), None, False)
    assert found.target_id(found.target) == "public.a.embedding"


def test_target_in_side_table_is_named_after_it():
    body = _body()
    body["target"] = {"model": "m", "dimensions": 3, "space": "s", "table": "a_vectors"}
    found = index_document.parse(json.dumps(body))
    assert found.target_id(found.target) == "public.a_vectors"


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("version",), 2, "version"),
        (("policy",), "", "policy"),
        (("table", "keyColumns"), [], "table.keyColumns"),
        (("table", "textColumns"), "t", "table.textColumns"),
        (("target", "dimensions"), 0, "target.dimensions"),
        (("target", "table"), "b", "target"),
        (("target", "column"), None, "target"),
        (("rows",), [{"column": "a", "operator": "like", "value": 1}], "rows[0].operator"),
        (("rows",), [{"column": "a", "operator": "=", "value": [1]}], "rows[0].value"),
        (("rows",), [{"column": "a", "operator": "in", "value": 1}], "rows[0].value"),
        (("limits",), {"batchRows": 0}, "limits.batchRows"),
    ],
)
def test_field_of_another_form_is_named(place, value, path):
    body = _body()
    at = body
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(InvalidDocument) as refused:
        index_document.parse(json.dumps(body))
    assert refused.value.path == path


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        index_document.parse(text)
    except InvalidDocument:
        return
