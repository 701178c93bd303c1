"""OpenAI's wire form: requests are understood or refused with `param`; floats are exact."""

import array
import base64
import json
import struct
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.openai_format import cache_control, openai_json
from embedding_sidecar.translation import provider_api

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5)
TOKENS = st.lists(st.integers(0, openai_json.MAX_TOKEN), min_size=1, max_size=5).map(tuple)


def parse(**body):
    return openai_json.parse(json.dumps({"model": "m", "input": "x", **body}).encode())


@given(
    items=TEXTS | st.lists(TOKENS, min_size=1, max_size=5),
    dimensions=st.none() | st.integers(1, 4096),
    input_type=st.sampled_from([None, "query", "document"]),
    truncation=st.sampled_from([None, True, False]),
    user=st.none() | st.text(min_size=1, max_size=9),
    encoding=st.sampled_from([None, "float", "base64"]),
)
def test_request_is_what_was_asked(items, encoding, **fields):
    asked = parse(input=items, encoding_format=encoding, **fields)
    assert asked.ask == provider_api.Ask(model="m", items=tuple(items), **fields)
    assert asked.base64 == (encoding == "base64")


def test_one_text_and_one_list_of_tokens_are_one_item():
    assert parse(input="abc").ask.items == ("abc",)
    assert parse(input=[1, 2, 3]).ask.items == ((1, 2, 3),)


@pytest.mark.parametrize(
    ("param", "body"),
    [
        (None, b""),
        (None, b"{"),
        (None, b"[]"),
        (None, b'"text"'),
        (None, b"\xff"),
        (None, b"[" * 100_000),
        (None, b'{"model": "m", "input": NaN}'),
        ("input", b'{"model": "m"}'),
        ("input", b'{"model": "m", "input": null}'),
        ("input", b'{"model": "m", "input": ""}'),
        ("input", b'{"model": "m", "input": []}'),
        ("input", b'{"model": "m", "input": [""]}'),
        ("input", b'{"model": "m", "input": ["a", ""]}'),
        ("input", b'{"model": "m", "input": ["a", 1]}'),
        ("input", b'{"model": "m", "input": ["a", null]}'),
        ("input", b'{"model": "m", "input": [1, "a"]}'),
        ("input", b'{"model": "m", "input": ["a", [1]]}'),
        ("input", b'{"model": "m", "input": [[1], "a"]}'),
        ("input", b'{"model": "m", "input": [{"a": 1}]}'),
        ("input", b'{"model": "m", "input": "\\ud800"}'),
        ("input", b'{"model": "m", "input": "\xed\xa0\x80"}'),
        (None, b'{"model": "m", "input": "x", "dimensions": 1e999}'),
        ("dimensions", b'{"model": "m", "input": "x", "dimensions": 18446744073709551616}'),
        ("dimensions", b'{"model": "m", "input": "x", "dimensions": 512.5}'),
        ("input", b'{"model": "m", "input": [18446744073709551616]}'),
        ("input", b'{"model": "m", "input": [true]}'),
        ("input", b'{"model": "m", "input": [1, -1]}'),
        ("input", b'{"model": "m", "input": [1.5]}'),
        ("input", b'{"model": "m", "input": [4294967296]}'),
        ("input", b'{"model": "m", "input": [[]]}'),
        ("input", b'{"model": "m", "input": {"text": "a"}}'),
        ("input", b'{"model": "m", "input": 7}'),
        ("model", b'{"input": "x"}'),
        ("model", b'{"model": "", "input": "x"}'),
        ("model", b'{"model": 3, "input": "x"}'),
        ("encoding_format", b'{"model": "m", "input": "x", "encoding_format": "int8"}'),
        ("encoding_format", b'{"model": "m", "input": "x", "encoding_format": ["float"]}'),
        ("dimensions", b'{"model": "m", "input": "x", "dimensions": 0}'),
        ("dimensions", b'{"model": "m", "input": "x", "dimensions": "512"}'),
        ("dimensions", b'{"model": "m", "input": "x", "dimensions": true}'),
        ("user", b'{"model": "m", "input": "x", "user": 1}'),
        ("input_type", b'{"model": "m", "input": "x", "input_type": "passages"}'),
        ("truncation", b'{"model": "m", "input": "x", "truncation": "END"}'),
        ("output_dimension", b'{"model": "m", "input": "x", "output_dimension": 0}'),
        ("output_dtype", b'{"model": "m", "input": "x", "output_dtype": "int8"}'),
        (
            "output_dimension",
            b'{"model": "m", "input": "x", "output_dimension": 256, "dimensions": 512}',
        ),
        ("cache", b'{"model": "m", "input": "x", "cache": true}'),
        ("cache", b'{"model": "m", "input": "x", "cache": {"use-cache": true}}'),
        ("cache.namespace", b'{"model": "m", "input": "x", "cache": {"namespace": "a"}}'),
        ("cache.no-cache", b'{"model": "m", "input": "x", "cache": {"no-cache": 1}}'),
        ("cache.no-store", b'{"model": "m", "input": "x", "cache": {"no-store": "true"}}'),
        ("cache.ttl", b'{"model": "m", "input": "x", "cache": {"ttl": -1}}'),
        ("cache.ttl", b'{"model": "m", "input": "x", "cache": {"ttl": 1.5}}'),
        ("cache.s-maxage", b'{"model": "m", "input": "x", "cache": {"s-maxage": true}}'),
        ("cache.s-maxage", b'{"model": "m", "input": "x", "cache": {"s-maxage": 1e10}}'),
    ],
)
def test_wrong_request_is_refused_with_its_field(param, body):
    with pytest.raises(errors.Rejected) as refused:
        openai_json.parse(body)
    assert refused.value.status == 400
    assert refused.value.param == param
    assert json.loads(openai_json.render_error(refused.value))["error"] == {
        "message": refused.value.message,
        "type": "invalid_request_error",
        "param": param,
        "code": None,
    }


def test_whole_number_is_one_however_it_is_written():
    written = b'{"model": "m", "input": [[1.0, 2e0]], "dimensions": 512.0}'
    asked = openai_json.parse(written)
    assert (asked.ask.items, asked.ask.dimensions) == (((1, 2),), 512)
    assert all(isinstance(token, int) for token in asked.ask.items[0])


def test_refusal_of_name_is_no_longer_than_name():
    with pytest.raises(errors.Rejected) as refused:
        parse(**{"x" * 10_000: 1})
    assert len(openai_json.render_error(refused.value)) < 1000


def test_last_of_repeated_name_counts():
    asked = openai_json.parse(b'{"model": "a", "input": "x", "model": "m"}')
    assert asked.ask.model == "m"


def test_voyages_words_say_same_and_are_remembered():
    asked = parse(output_dimension=256, output_dtype="float", dimensions=256)
    assert asked.ask == parse(dimensions=256).ask == parse(output_dimension=256).ask
    assert asked.voyage_keys == ("output_dimension", "output_dtype")
    assert parse(dimensions=256).voyage_keys == ()


def test_stricter_of_header_and_body_controls_cache():
    body = {"no-store": True, "ttl": 60, "s-maxage": 10}
    asked = openai_json.parse(
        json.dumps({"model": "m", "input": "x", "cache": body}).encode(),
        header="max-age=30, no-cache",
    )
    assert asked.control == cache_control.CacheControl(
        no_cache=True, no_store=True, max_age_seconds=10, ttl_seconds=60
    )
    assert asked.ask == parse().ask
    assert parse().control == parse(cache=None).control == cache_control.DEFAULT


def test_too_many_items_are_refused():
    assert len(parse(input=["x"] * 2048).ask.items) == 2048
    with pytest.raises(errors.Rejected, match="2049"):
        parse(input=["x"] * 2049)


def test_text_no_model_takes_is_refused():
    assert parse(input="x" * openai_json.MAX_ITEM_BYTES)
    with pytest.raises(errors.Rejected, match=r"input\[1\]"):
        parse(input=["x", "é" * (openai_json.MAX_ITEM_BYTES // 2 + 1)])
    with pytest.raises(errors.Rejected, match=f"{openai_json.MAX_TOKENS_PER_ITEM + 1} tokens"):
        parse(input=[1] * (openai_json.MAX_TOKENS_PER_ITEM + 1))


def test_text_of_any_length_may_be_cut_where_that_is_asked_for():
    long = "x" * (openai_json.MAX_ITEM_BYTES + 1)
    assert parse(input=[long], truncation=True).ask.items == (long,)
    with pytest.raises(errors.Rejected):
        parse(input=[long], truncation=False)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=3))
def test_floats_and_base64_are_same_bits(numbers):
    vectors = tuple(struct.pack("<3f", *row) for row in numbers)
    as_text = json.loads(openai_json.render(vectors=vectors, model="m", tokens=3, as_base64=True))
    as_floats = json.loads(
        openai_json.render(vectors=vectors, model="m", tokens=3, as_base64=False)
    )
    assert tuple(base64.b64decode(row["embedding"]) for row in as_text["data"]) == vectors
    assert tuple(struct.pack("<3f", *row["embedding"]) for row in as_floats["data"]) == vectors
    assert [row["index"] for row in as_text["data"]] == list(range(len(vectors)))
    assert as_text["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@given(
    vectors=st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=9).map(tuple),
    as_base64=st.booleans(),
    piece_bytes=st.integers(0, 60),
)
def test_pieces_are_answer(vectors, as_base64, piece_bytes):
    said = {"vectors": vectors, "model": "m", "tokens": 3, "as_base64": as_base64}
    with mock.patch.object(openai_json, "PIECE_BYTES", piece_bytes):
        pieces = list(openai_json.chunks(**said))
    assert b"".join(pieces) == openai_json.render(**said)
    assert len(pieces) > 1 or len(vectors) == 1 or piece_bytes


def test_float_is_as_exact_as_double_can_say_it():
    vector = array.array("f", [0.1]).tobytes()
    body = json.loads(openai_json.render(vectors=(vector,), model="m", tokens=0, as_base64=False))
    assert body["data"][0]["embedding"] == [0.10000000149011612]


def test_text_is_not_shown():
    asked = openai_json.parse(b'{"model": "m", "input": "a text of somebody"}')
    assert "somebody" not in repr(asked)
