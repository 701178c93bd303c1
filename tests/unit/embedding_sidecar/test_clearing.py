"""The entries that a DELETE of the cache names."""

import json

import pytest

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.api import clearing

POLICY = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=(
        document.Provider(name="a", kind="OpenAI", model="small", base_url="https://a/v1"),
        document.Provider(
            name="b", kind="OpenAI", model="large", base_url="https://a/v1", dimensions=256
        ),
    ),
)


def parse(query="", body=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
    return clearing.parse(query, raw, policy=POLICY)


def test_empty_request_clears_all():
    assert parse() == clearing.Clearing(model=None)


@pytest.mark.parametrize(
    ("query", "body"),
    [("model=small", None), ("", {"model": "small"}), ("model=small", {"model": "small"})],
)
def test_one_model_is_named_in_query_or_body(query, body):
    assert parse(query, body) == clearing.Clearing(model="small")


@pytest.mark.parametrize(
    ("written", "items"),
    [("x", ("x",)), (["x", "y"], ("x", "y")), ([1, 2], ((1, 2),)), ([[1], [2]], ((1,), (2,)))],
)
def test_texts_are_written_as_in_request_for_embeddings(written, items):
    assert parse(body={"input": written}) == clearing.Clearing(model=None, items=items)
    assert parse("model=large", {"input": written}).model == "large"


@pytest.mark.parametrize(
    ("query", "body", "param"),
    [
        ("text=x", None, "text"),
        ("model=other", None, "model"),
        ("model=small&model=large", None, "model"),
        ("model=small", {"model": "large"}, "model"),
        ("", {"model": 7}, "model"),
        ("", {"model": ["small"]}, "model"),
        ("", {"input": []}, "input"),
        ("", {"input": ""}, "input"),
        ("", {"input": None}, "input"),
        ("", {"input": ["x"] * (clearing.MAX_ITEMS + 1)}, "input"),
        ("", {"inputs": "x"}, "inputs"),
        ("", b"[1]", None),
        ("", b"{", None),
        ("", b"\xff", None),
    ],
)
def test_unusable_clearing_field_is_refused_by_name(query, body, param):
    with pytest.raises(errors.Rejected) as caught:
        parse(query, body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_forms_of_item_are_those_of_every_model_or_of_one_named():
    every = list(clearing.variants(parse(body={"input": "x"}), policy=POLICY))
    one = list(clearing.variants(parse("model=large", {"input": "x"}), policy=POLICY))
    assert len(every) == 2 * 9
    assert len(one) == 9
    assert {(ask.model, ask.dimensions, space) for ask, space in one} == {
        ("large", 256, POLICY.providers[1].space())
    }
