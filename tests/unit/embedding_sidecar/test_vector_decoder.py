"""Answers of any length, in any pieces, are read as if whole; none holds more than requested."""

import base64
import itertools
import json
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.translation import vector_decoder
from embedding_sidecar.upstream.answer_body import Intake

NUMBERS = 1000
COUNT = 80
"""Of vectors of so many numbers; longer than what is read whole in either form."""


def vector(index, numbers=NUMBERS):
    return struct.pack("<f", index / 8) * numbers


def answer(*, count=COUNT, numbers=NUMBERS, as_base64=True, order=None, indent=None, more=None):
    def said(index):
        made = vector(index, numbers)
        return (
            base64.b64encode(made).decode()
            if as_base64
            else list(struct.unpack(f"<{numbers}f", made))
        )

    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": said(index), **(more or {})}
            for index in (order or range(count))
        ],
        "model": "m",
        "usage": {"total_tokens": 7},
    }
    return json.dumps(body, indent=indent).encode()


def cut(data, places):
    marks = sorted({0, len(data), *(it % len(data) for it in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def read(pieces, *, count=COUNT, dimensions=None):
    reader = vector_decoder.Reader(count=count, dimensions=dimensions)
    for piece in pieces:
        reader.feed(piece)
    return reader.vectors()


EXPECTED = vector_decoder.Vectors(tuple(vector(index) for index in range(COUNT)), 7)
LONG = {
    "base64": answer(),
    "floats": answer(as_base64=False),
    "indented": answer(as_base64=False, indent=8),
    "in another order": answer(order=list(reversed(range(COUNT)))),
    "with objects and braces within": answer(more={"note": {"a": [{}]}, "text": 'a } "data":[ {'}),
}


@pytest.mark.parametrize("form", LONG)
@settings(max_examples=20, deadline=None)
@given(places=st.lists(st.integers(0, 2**22), max_size=20))
@example(places=list(range(0, 2**21, 4099)))
def test_long_answer_is_same_in_any_pieces(form, places):
    data = LONG[form]
    assert len(data) > vector_decoder.WHOLE_BYTES
    assert read(cut(data, places)) == EXPECTED
    assert read(cut(data, places), dimensions=NUMBERS) == EXPECTED


@settings(max_examples=50, deadline=None)
@given(
    places=st.lists(st.integers(0, 2**20), max_size=5),
    at=st.integers(0, 2**20),
    length=st.integers(1, 30),
    new=st.sampled_from([b"", b"}", b"{", b"]", b"[", b",", b'"', b"0", b'"data":[', b"null"]),
)
def test_changed_answer_is_what_it_is_whole_or_of_no_use(places, at, length, new):
    """It may be stricter in pieces, and never says anything else."""
    data = LONG["base64"]
    at %= len(data)
    data = data[:at] + new + data[at + length :]
    try:
        raw = json.loads(data)
        whole = [base64.b64decode(row["embedding"]) for row in raw["data"]]
        # Without an index it is of its place, where all others are of theirs (B1).
        places = [row.get("index", at) for at, row in enumerate(raw["data"])]
        expected = tuple(vector for _, vector in sorted(zip(places, whole, strict=True)))
    except (ValueError, KeyError, TypeError):
        expected = None
    try:
        found = read(cut(data, places)).vectors
    except errors.Unusable:
        return
    assert found == expected


def held_at_most(start, piece, *, count=1, dimensions=None, feeds=3000):
    """What a reader holds of what has no end, at most, and whether it gave up."""
    reader = vector_decoder.Reader(count=count, dimensions=dimensions)
    reader.feed(start)
    most = 0
    for _ in range(feeds):
        reader.feed(piece)
        most = max(most, reader.held_bytes)
        if reader.is_lost:
            break
    return most, reader.is_lost


PIECE = 2**16
ITEM = b'{"data":[{"index":0,"embedding":'
HOSTILE = {
    "zeros": (ITEM + b"[", b"0," * (PIECE // 2)),
    "base64": (ITEM + b'"', b"A" * PIECE),
    "digits": (ITEM + b"[0.", b"0" * PIECE),
    "space": (ITEM, b" " * PIECE),
    "depth": (ITEM, b"[" * PIECE),
    "a text before data": (b'{"model":"', b"a" * PIECE),
    "pairs before data": (b"{", b'"a":1,' * (PIECE // 6)),
    "data within a text": (b'{"a":"', b'\\"data\\":[' * (PIECE // 10)),
    "braces": (ITEM + b'"', b"}" * PIECE),
    "items": (b'{"data":[', b'{"index":0,"embedding":"AAAAAA=="},' * (PIECE // 36)),
    "no items": (b'{"data":[', b"1," * (PIECE // 2)),
    "behind the items": (
        b'{"data":[{"index":0,"embedding":"AAAAAA=="}],"usage":{"total_tokens":1},"a":"',
        b"a" * PIECE,
    ),
}


@pytest.mark.parametrize("form", HOSTILE)
@pytest.mark.parametrize("dimensions", [None, 1536])
def test_d4_answer_without_end_is_given_up_within_what_was_asked(form, dimensions):
    most, is_lost = held_at_most(*HOSTILE[form], dimensions=dimensions)
    assert is_lost
    numbers = dimensions or vector_decoder.MAX_NUMBERS
    bound = max(
        numbers * vector_decoder.NUMBER_BYTES + vector_decoder.ITEM_BYTES,
        vector_decoder.WHOLE_BYTES,
    )
    assert most <= bound + vector_decoder.MAX_ENVELOPE_BYTES + PIECE


def test_d4_answer_given_up_is_held_no_longer():
    reader = vector_decoder.Reader(count=1, dimensions=None)
    for _ in range(100):
        reader.feed(b"[" * PIECE)
    assert (reader.is_lost, reader.held_bytes) == (True, 0)
    with pytest.raises(errors.Unusable):
        reader.vectors()


@pytest.mark.parametrize("numbers", [vector_decoder.MAX_NUMBERS, vector_decoder.MAX_NUMBERS + 1])
def test_vector_longer_than_any_model_makes_is_of_no_use_unless_asked_for(numbers):
    data = answer(count=1, numbers=numbers)
    assert read([data], count=1, dimensions=numbers).vectors == (vector(0, numbers),)
    if numbers > vector_decoder.MAX_NUMBERS:
        with pytest.raises(errors.Unusable):
            read([data], count=1)


def test_d4_longest_of_hostile_answers_is_given_up():
    intake = Intake(memory_bytes=4 * 10 * PIECE)
    fair = vector_decoder.Reader(count=1, dimensions=None)
    fair.feed(b" " * PIECE)
    intake.grew(fair)
    hostile = [vector_decoder.Reader(count=2000, dimensions=None) for _ in range(8)]
    for _ in range(4):
        for body in hostile:
            body.feed(b" " * PIECE)
            if not body.is_lost:
                intake.grew(body)
            assert intake.held_bytes <= 10 * PIECE
    assert not fair.is_lost
    assert any(it.is_lost for it in hostile)
    for body in (fair, *hostile):
        intake.leave(body)
    assert intake.held_bytes == 0


def test_later_vector_of_other_size_is_bad_answer():
    vectors = [base64.b64encode(vector(1, numbers)).decode() for numbers in (2, 3)]
    body = json.dumps({"data": [{"embedding": it} for it in vectors]}).encode()
    with pytest.raises(errors.Unusable) as caught:
        read([body], count=2, dimensions=2)
    assert caught.type is errors.Unusable
