"""A search's body: the valid ones, and refusals that name the field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract.index_document import Search
from embedding_vectors.conditions import ColumnType
from embedding_vectors.search import requests, statements
from embedding_vectors.serving.refusals import Refusal
from tests.parts import searching

SEARCH = Search(filter_columns=("bucket", "lang"), return_columns=("body",))
DOCUMENT = searching.index(search=SEARCH)
TYPES = {
    "id": ColumnType(schema="pg_catalog", name="int8"),
    "body": ColumnType(schema="pg_catalog", name="text"),
    "bucket": ColumnType(schema="pg_catalog", name="int4"),
    "lang": ColumnType(schema="pg_catalog", name="text"),
}


def parse(body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.parse(raw, document=DOCUMENT, search=SEARCH, types=TYPES)


def condition(**changes):
    return {"column": "bucket", "operator": "=", "value": 1, **changes}


def test_absent_or_null_field_has_its_default():
    for body in ({"query": "x"}, {"query": "x", "k": None, "filter": None, "mode": None}):
        asked = parse(body)
        assert (asked.query, asked.k, asked.mode, asked.values) == ("x", 10, "vector", ())


def test_everything_is_read():
    asked = parse(
        {
            "query": "words",
            "k": 1000,
            "mode": "hybrid",
            "index": "docs",
            "filter": [condition(), condition(column="lang", operator="in", value=["en", "de"])],
        }
    )
    assert (asked.k, asked.mode) == (1000, "hybrid")
    assert asked.values == (1, ["en", "de"])
    assert asked.where.as_string() == (
        '"t"."bucket" = %s::"pg_catalog"."int4" AND "t"."lang" = ANY (%s::"pg_catalog"."text"[])'
    )


REFUSED = [
    (b"", None),
    (b"{", None),
    (b'"x"', None),
    (b"[1]", None),
    (b'{"query": "\xff"}', None),
    (b'{"query": "\\ud800"}', None),
    (b"[" * 5000, None),
    ({}, "query"),
    ({"query": None}, "query"),
    ({"query": ""}, "query"),
    ({"query": " \n"}, "query"),
    ({"query": 5}, "query"),
    ({"query": ["x"]}, "query"),
    ({"query": "a\0b"}, "query"),
    ({"query": "ä" * 16_385}, "query"),
    ({"query": "x", "k": 0}, "k"),
    ({"query": "x", "k": 1001}, "k"),
    ({"query": "x", "k": -1}, "k"),
    ({"query": "x", "k": "10"}, "k"),
    ({"query": "x", "k": 1.5}, "k"),
    ({"query": "x", "k": True}, "k"),
    ({"query": "x", "mode": "sql"}, "mode"),
    ({"query": "x", "mode": 1}, "mode"),
    ({"query": "x", "mode": ["text"]}, "mode"),
    ({"query": "x", "index": "others"}, "index"),
    ({"query": "x", "index": 5}, "index"),
    ({"query": "x", "limit": 5}, "limit"),
    ({"query": "x", "filter": {}}, "filter"),
    ({"query": "x", "filter": "bucket = 1"}, "filter"),
    ({"query": "x", "filter": [condition()] * 33}, "filter"),
    ({"query": "x", "filter": [1]}, "filter[0]"),
    ({"query": "x", "filter": [condition(), {}]}, "filter[1].operator"),
    ({"query": "x", "filter": [condition(sql="1=1")]}, "filter[0].sql"),
    ({"query": "x", "filter": [condition(column="body")]}, "filter[0].column"),
    ({"query": "x", "filter": [condition(column="no")]}, "filter[0].column"),
    ({"query": "x", "filter": [condition(column="")]}, "filter[0].column"),
    ({"query": "x", "filter": [condition(column=5)]}, "filter[0].column"),
    ({"query": "x", "filter": [condition(operator="==")]}, "filter[0].operator"),
    ({"query": "x", "filter": [condition(operator="LIKE")]}, "filter[0].operator"),
    ({"query": "x", "filter": [condition(), condition(value="1")]}, "filter[1].value"),
    ({"query": "x", "filter": [condition(value=[1])]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(value={"a": 1})]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(value=2**31)]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(operator="in", value=1)]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(operator="in", value=[1, "x"])]}, "filter[0].value[1]"),
    ({"query": "x", "filter": [condition(operator="in", value=[1] * 1001)]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(operator="between", value=[1])]}, "filter[0].value"),
    ({"query": "x", "filter": [condition(operator="<", value=None)]}, "filter[0].value"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_invalid_field_is_refused_by_name(body, param):
    with pytest.raises(Refusal) as refused:
        parse(body)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.message.endswith((".", str(param)))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_BODIES = st.fixed_dictionaries(
    {"query": st.just("x") | _JSON},
    optional={
        "k": _JSON | st.integers(0, 1001),
        "mode": _JSON | st.sampled_from(requests.MODES),
        "index": _JSON | st.just("docs"),
        "filter": _JSON
        | st.lists(
            st.fixed_dictionaries(
                {
                    "column": st.sampled_from(["bucket", "lang", "id"]) | _JSON,
                    "operator": st.sampled_from(["=", "!=", "<", ">", "in", "between"]) | _JSON,
                    "value": _JSON,
                }
            ),
            max_size=3,
        ),
    },
)


@given(_BODIES)
def test_any_body_is_read_or_refused(body):
    try:
        asked = parse(body)
    except Refusal:
        return
    assert 1 <= asked.k <= 1000
    assert asked.mode in requests.MODES
    assert asked.where.as_string().count("%s") == len(asked.values)


def test_request_does_not_show_what_was_asked():
    asked = parse({"query": "secret words", "filter": [condition(value=12345)]})
    assert "secret" not in repr(asked)
    assert "12345" not in repr(asked)


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_words_are_looked_for_of_beginning_of_long_question(mode):
    asked = parse({"query": "é" * 10_000, "mode": mode})
    assert asked.query == "é" * 10_000
    words, again, most = statements.by_text(DOCUMENT, SEARCH, asked, most=3).values
    assert words == again == "é" * (requests.MAX_WORDS_BYTES // 2)
    assert most == 3


def test_query_of_words_alone_is_bounded():
    assert parse({"query": "x" * requests.MAX_WORDS_BYTES, "mode": "text"}).mode == "text"
    with pytest.raises(Refusal) as refused:
        parse({"query": "x" * (requests.MAX_WORDS_BYTES + 1), "mode": "text"})
    assert refused.value.param == "query"
