"""OpenAI's wire form: what is asked is understood or refused with `param`; floats are exact."""

import array
import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors, provider, wire

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ITEMS = st.text(min_size=1, max_size=20) | st.lists(
    st.integers(0, wire.MAX_TOKEN), min_size=1, max_size=5
).map(tuple)


def parse(**body):
    return wire.parse(json.dumps({"model": "m", "input": "x", **body}).encode())


@given(
    items=st.lists(ITEMS, min_size=1, max_size=5),
    dimensions=st.none() | st.integers(1, 4096),
    input_type=st.sampled_from([None, "query", "document"]),
    truncation=st.sampled_from([None, True, False]),
    user=st.none() | st.text(min_size=1, max_size=9),
    encoding=st.sampled_from([None, "float", "base64"]),
)
def test_a_request_is_what_was_asked(items, encoding, **fields):
    asked = parse(input=items, encoding_format=encoding, **fields)
    assert asked.ask == provider.Ask(model="m", items=tuple(items), **fields)
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
        ("input_type", b'{"model": "m", "input": "x", "input_type": "passage"}'),
        ("truncation", b'{"model": "m", "input": "x", "truncation": "END"}'),
        ("stream", b'{"model": "m", "input": "x", "stream": true}'),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(param, body):
    with pytest.raises(errors.Rejected) as refused:
        wire.parse(body)
    assert refused.value.status == 400
    assert refused.value.param == param
    assert json.loads(wire.render_error(refused.value))["error"] == {
        "message": refused.value.message,
        "type": "invalid_request_error",
        "param": param,
        "code": None,
    }


def test_too_many_items_are_refused():
    assert len(parse(input=["x"] * 2048).ask.items) == 2048
    with pytest.raises(errors.Rejected, match="2049"):
        parse(input=["x"] * 2049)


def test_a_text_no_model_takes_is_refused():
    assert parse(input="x" * wire.MAX_ITEM_BYTES)
    with pytest.raises(errors.Rejected, match=r"input\[1\]"):
        parse(input=["x", "é" * (wire.MAX_ITEM_BYTES // 2 + 1)])
    with pytest.raises(errors.Rejected, match="8193 tokens"):
        parse(input=[1] * 8193)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=3))
def test_floats_and_base64_are_the_same_bits(numbers):
    vectors = tuple(struct.pack("<3f", *row) for row in numbers)
    as_text = json.loads(wire.render(vectors=vectors, model="m", tokens=3, as_base64=True))
    as_floats = json.loads(wire.render(vectors=vectors, model="m", tokens=3, as_base64=False))
    assert tuple(base64.b64decode(row["embedding"]) for row in as_text["data"]) == vectors
    assert tuple(struct.pack("<3f", *row["embedding"]) for row in as_floats["data"]) == vectors
    assert [row["index"] for row in as_text["data"]] == list(range(len(vectors)))
    assert as_text["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_a_float_is_as_exact_as_a_double_can_say_it():
    vector = array.array("f", [0.1]).tobytes()
    body = json.loads(wire.render(vectors=(vector,), model="m", tokens=0, as_base64=False))
    assert body["data"][0]["embedding"] == [0.10000000149011612]
