"""Answers of vendors that have list, vectors and tokens in other places than OpenAI."""

import base64
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.translation import vector_decoder
from embedding_sidecar.translation.vector_decoder import Form

NAMED = Form("embeddings", "values", tokens=lambda it: vector_decoder.count(it.get("meta"), "n"))
BARE = Form(
    entries=lambda it: [{"embedding": one} for one in it["embeddings"]["base64"]],
    tokens=lambda it: vector_decoder.count(it.get("meta"), "n"),
)
DIMENSIONS = 512


def vector(index: int) -> bytes:
    return struct.pack(f"<{DIMENSIONS}f", *(index + at / 8 for at in range(DIMENSIONS)))


def answer(form: Form, count: int) -> bytes:
    meta = {"n": 9}
    if form is BARE:
        found = [base64.b64encode(vector(at)).decode() for at in range(count)]
        return json.dumps({"texts": ["a"], "embeddings": {"base64": found}, "meta": meta}).encode()
    listed = [{"values": list(struct.unpack(f"<{DIMENSIONS}f", vector(at)))} for at in range(count)]
    return json.dumps({"embeddings": listed, "meta": meta}).encode()


def reader_of(form: Form, *, count: int, echo_bytes: int = 0) -> vector_decoder.Reader:
    return vector_decoder.Reader(
        count=count, dimensions=DIMENSIONS, form=form, echo_bytes=echo_bytes
    )


@settings(max_examples=20, deadline=None)
@given(
    form=st.sampled_from([NAMED, BARE]),
    count=st.sampled_from([1, 3, 200]),
    piece=st.integers(1000, 2**18),
)
def test_vectors_and_tokens_are_read_in_forms_places(form, count, piece):
    data = answer(form, count)
    reader = reader_of(form, count=count)
    for at in range(0, len(data), piece):
        reader.feed(data[at : at + piece])
    expected = vector_decoder.Vectors(tuple(map(vector, range(count))), 9)
    assert reader.vectors() == expected


def test_named_list_is_read_while_it_comes():
    data, reader = answer(NAMED, 400), reader_of(NAMED, count=400)
    assert len(data) > 4 * vector_decoder.WHOLE_BYTES
    most = 0
    for at in range(0, len(data), 2**16):
        reader.feed(data[at : at + 2**16])
        most = max(most, reader.held_bytes)
    assert most < 400 * len(vector(0)) + 2**18


def test_answer_without_list_is_bounded_by_what_was_asked_for():
    reader = reader_of(BARE, count=1, echo_bytes=1000)
    piece, held = b"a" * 2**16, 0
    reader.feed(b'{"texts":["')
    while not reader.is_lost:
        reader.feed(piece)
        held += len(piece)
    most = vector_decoder.WHOLE_BYTES + DIMENSIONS * vector_decoder.NUMBER_BYTES
    assert held < most + vector_decoder.ITEM_BYTES + 1000 + 2 * len(piece)
    assert reader.held_bytes == 0
    with pytest.raises(errors.Unusable):
        reader.vectors()


@pytest.mark.parametrize("body", [b"{}", b'{"embeddings":[]}', b'{"data":[]}', b"null", b"[1]"])
def test_answer_of_another_form_is_unusable(body):
    for form in (NAMED, Form(entries=lambda _: None)):
        reader = reader_of(form, count=1)
        reader.feed(body)
        with pytest.raises(errors.Unusable):
            reader.vectors()
