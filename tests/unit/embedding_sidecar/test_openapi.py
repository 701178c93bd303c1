"""The schema describes what the code reads: both refuse and accept the same."""

import dataclasses
import json

import jsonschema
import orjson
import pytest
from hypothesis import given

from embedding_contract import document, names
from embedding_sidecar import errors
from embedding_sidecar.api import openapi, openapi_schemas
from embedding_sidecar.openai_format import cache_control, models, openai_json
from tests.parts import bodies

POLICY = document.PolicyDocument(
    namespace="shop",
    name="main",
    providers=(
        document.Provider(name="a", kind="OpenAI", model="small", base_url="http://x"),
        document.Provider(
            name="b", kind="Voyage", model="voyage-4", base_url="http://x", aliases=("v",)
        ),
    ),
)


def accepts(schema, body):
    return jsonschema.Draft202012Validator(schema).is_valid(body)


def test_every_name_code_reads_is_described_and_no_other():
    assert openapi_schemas.request(None)["properties"].keys() == openai_json.KEYS
    described = openapi_schemas.request(POLICY)["properties"].keys()
    assert described == openai_json.KEYS | set(openai_json.VOYAGE_KEYS)


@pytest.mark.parametrize("policy", [None, POLICY])
def test_description_is_json_and_every_reference_leads_somewhere(policy):
    described = openapi.document(policy)
    text = orjson.dumps(described).decode()
    jsonschema.Draft202012Validator.check_schema(described["components"]["schemas"])
    for part in text.split('"$ref":"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in described["components"]["schemas"]
    assert described["paths"].keys() >= {names.PATH_EMBEDDINGS, names.PATH_MODELS}


def read(body):
    """What the code makes of it; None where it refuses it."""
    try:
        asked = openai_json.parse(json.dumps(body).encode())
        models.owner(POLICY, asked.ask.model)
        models.check(POLICY, asked)
    except errors.Rejected:
        return None
    return asked


def agree(body):
    """Both refuse it or both accept it; whether they do."""
    described, asked = accepts(openapi_schemas.request(POLICY), body), read(body)
    if asked is None:
        assert not described
        return False
    # No schema can say that two values are equal, and whether somebody takes the tokens that
    # Voyage cannot is known only with the policy's other providers.
    both = {"dimensions", "output_dimension"} <= body.keys()
    tokens = isinstance(asked.ask.items[0], tuple) and asked.ask.model != "small"
    assert described or both or tokens
    return True


@given(bodies.any_body(["small", "voyage-4", "v"]))
def test_schema_and_code_refuse_and_accept_same(body):
    agree(body)


@pytest.mark.parametrize(
    ("least", "most", "field"),
    [
        (1, openai_json.MAX_DIMENSIONS, lambda size: {"dimensions": size}),
        (1, openai_json.MAX_NAME, lambda size: {"user": "x" * size}),
        (1, openai_json.MAX_ITEM_BYTES, lambda size: {"input": "x" * size}),
        (1, openai_json.MAX_ITEMS, lambda size: {"input": ["x"] * size}),
        (1, openai_json.MAX_ITEMS, lambda size: {"input": [[1]] * size}),
        (1, openai_json.MAX_TOKENS_PER_ITEM, lambda size: {"input": [1] * size}),
        (1, openai_json.MAX_TOKENS_PER_ITEM, lambda size: {"input": [[1] * size]}),
        (0, openai_json.MAX_TOKEN, lambda size: {"input": [size]}),
        (0, cache_control.MAX_SECONDS, lambda size: {"cache": {"ttl": size}}),
        (0, cache_control.MAX_SECONDS, lambda size: {"cache": {"s-maxage": size}}),
    ],
)
def test_schema_and_code_have_same_bounds(least, most, field):
    def taken(size):
        return agree({"model": "small", "input": "x", **field(size)})

    assert taken(least)
    assert taken(most)
    assert not taken(most + 1)
    assert not taken(least - 1)


def test_unknown_field_is_taken_as_null_only():
    assert agree({"model": "small", "input": "x", "": None})
    assert not agree({"model": "small", "input": "x", "": 0})


def test_voyages_words_are_described_for_voyages_models_only():
    words = {"output_dimension": 256, "output_dtype": "float", "input": "x"}
    assert agree({"model": "v", **words})
    assert not agree({"model": "small", **words})


def test_search_is_described_by_what_policy_has():
    one = document.Index(name="docs", uid="u", url="http://docs:8486")
    other = document.Index(name="notes", uid="v", url="http://notes:8486")
    body = {"query": "x", "k": 1000, "mode": "hybrid", "filter": []}
    for indexes, named, unnamed in (
        ((), True, True),
        ((one,), True, True),
        ((one, other), True, False),
    ):
        schema = openapi_schemas.search(dataclasses.replace(POLICY, indexes=indexes))
        assert accepts(schema, {**body, "index": "docs"}) is named
        assert accepts(schema, body) is unnamed
        if indexes:
            assert not accepts(schema, {**body, "index": "others"})
    condition = {"column": "c", "operator": "between", "value": [1, 2]}
    assert accepts(openapi_schemas.search(None), {"query": "x", "filter": [condition]})
    for wrong in (
        {},
        {"query": ""},
        {"query": "x", "k": 0},
        {"query": "x", "k": 1001},
        {"query": "x", "mode": "sql"},
        {"query": "x", "limit": 5},
        {"query": "x", "filter": [{**condition, "operator": "LIKE"}]},
        {"query": "x", "filter": [condition] * 33},
    ):
        assert not accepts(openapi_schemas.search(None), wrong)
