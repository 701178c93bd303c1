"""Vectors that are unambiguous are used, whatever else the answer lacks (B1)."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.api import response_headers
from embedding_sidecar.translation import vector_decoder
from embedding_sidecar.upstream import answer_body, http1_response
from tests.fakes import provider as stand_in
from tests.parts.world import NOTHING_LEFT, World, one
from tests.parts.world import vectors as expected

ITEMS = ("a", "b", "c")


def rows(change):
    """A fault: each row of the answer, changed."""

    def fault(answer):
        for row in answer[2]["data"]:
            change(row)
        return answer

    return fault


def without_zero(row):
    if row["index"] == 0:
        del row["index"]


@pytest.mark.parametrize(
    "change",
    [
        without_zero,
        lambda row: row.pop("index"),
        lambda row: row.update(index=None),
        lambda row: row.update(index=float(row["index"])),
        lambda row: row.update(index=row["index"] or None),
        # Siblings: only the first ones have one; a field that nobody knows.
        lambda row: row.pop("index") if row["index"] else None,
        lambda row: row.update(object=None, score=1.5),
    ],
)
def test_b1_index_left_out_is_that_of_place(change):
    """B1."""
    world = World(one("p"))
    world.net["p"].fault = rows(change)
    assert world.embed(*ITEMS).vectors == expected("m", *ITEMS)


def test_b1_one_index_left_out_is_0_wherever_it_stands():
    """B1: protobuf leaves out what is 0, and answers may come in any order."""
    world = World(one("p"))

    def fault(answer):
        answer[2]["data"].reverse()
        del answer[2]["data"][-1]["index"]
        return answer

    world.net["p"].fault = fault
    assert world.embed(*ITEMS).vectors == expected("m", *ITEMS)


@pytest.mark.parametrize(
    "indexes",
    [[1, None, 0], [2, None, None], [0, 0, 0], [1, 2, 3], [None, 0, 1], [0, None, None, 1]],
)
def test_b1_order_in_doubt_is_no_answer(indexes):
    """B1: the vector of another text is worse than none."""
    data = [{"embedding": [float(at)], "index": it} for at, it in enumerate(indexes)]
    reader = vector_decoder.Reader(count=3, dimensions=None)
    reader.feed(json.dumps({"data": data}).encode())
    with pytest.raises(errors.Unusable):
        reader.vectors()


@given(st.permutations(range(5)), st.sets(st.integers(0, 4)))
def test_b1_accepted_order_is_right_or_positional(order, left_out):
    """B1: whatever is left out, a vector is never given to a text that says another index."""
    data = [{"embedding": [float(at)], "index": at} for at in order]
    for place in left_out:
        del data[place]["index"]
    reader = vector_decoder.Reader(count=5, dimensions=None)
    reader.feed(json.dumps({"data": data}).encode())
    try:
        found = reader.vectors().vectors
    except errors.Unusable:
        return
    for row in data:
        if "index" in row:
            assert vector_decoder.numbers(found[row["index"]])[0] == row["embedding"][0]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": 3}, 3),
        ({"total_tokens": 3}, 3),
        ({"total_tokens": 3.0, "prompt_tokens": 3.0}, 3),
        ({"total_tokens": None, "prompt_tokens": 4}, 4),
        # Siblings: numbers that cannot be, and another kind of value.
        ({"total_tokens": -1}, None),
        ({"total_tokens": True}, None),
        ({"total_tokens": 10**30}, None),
        ([], None),
        ("3", None),
    ],
)
def test_b1_usage_is_what_is_said_else_bound_and_said_to_be_estimated(usage, tokens):
    """B1."""
    world = World(one("p"))
    world.net["p"].fault = stand_in.changed(lambda body: body.update(usage=usage))
    answer = world.embed("one")
    bound = world.quota.reserved[0]
    assert (answer.tokens, answer.is_estimated) == (tokens or bound, tokens is None)
    assert world.quota.settled == [(True, tokens or bound)]


def test_b1_usage_that_is_no_part_of_answer_is_estimated():
    """B1."""
    world = World(one("p"))
    world.net["p"].fault = stand_in.changed(lambda body: body.pop("usage"))
    assert world.embed("one").is_estimated


class Day:
    def left(self, *, background=False):
        del background
        return NOTHING_LEFT


@pytest.mark.parametrize("estimated", [True, False])
def test_b1_estimate_says_so_in_header(estimated):
    """B1."""
    world = World(one("p"))
    if estimated:
        world.net["p"].fault = stand_in.changed(lambda body: body.pop("usage"))
    day: Any = Day()
    head = response_headers.head(world.embed("one"), day, seconds=0.1)
    assert (b"x-embedding-usage: estimated\r\n" in head) is estimated


BODY = json.dumps(
    {"data": [{"index": 0, "embedding": [1.0, 2.0]}], "usage": {"total_tokens": 2}}
).encode()


def deflated(body):
    packed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packed.compress(body) + packed.flush()


CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "Deflate": deflated(BODY),
    "identity": BODY,
    # Of two members; named twice; and with what some proxies put behind.
    "GZIP": gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]),
    "gzip, identity": gzip.compress(BODY),
    "identity\r\ncontent-encoding: gzip": gzip.compress(BODY),
    "x-gzip ": gzip.compress(BODY) + bytes(8),
}


def received(body, *, status=200, coding=None, piece=7):
    """What the client makes of an answer that comes in pieces."""
    reader = http1_response.Reader()
    reader.body = vector_decoder.Reader(count=1, dimensions=None)
    coded = f"content-encoding: {coding}\r\n" if coding else ""
    head = f"HTTP/1.1 {status} X\r\n{coded}content-length: {len(body)}\r\n\r\n".encode()
    found = reader.feed(head)
    for at in range(0, len(body), piece):
        if found is None:
            found = reader.feed(body[at : at + piece])
    return found


@pytest.mark.parametrize("coding", CODED)
def test_b1_content_coding_that_was_not_asked_for_is_undone(coding):
    """B1: in spite of `identity`."""
    answer = received(CODED[coding], coding=coding)
    assert vector_decoder.numbers(answer.reader.vectors().vectors[0]).tolist() == [1.0, 2.0]


def test_b1_decoded_bytes_are_bounded():
    """B1: 20 KB that become 20 MB are given up long before."""
    bomb = gzip.compress(b" " * 20_000_000)
    most = 0
    reader = vector_decoder.Reader(count=1, dimensions=4)
    decoder = answer_body.Decoder("gzip", reader)
    for at in range(0, len(bomb), 100):
        decoder.feed(bomb[at : at + 100])
        most = max(most, reader.held_bytes)
    assert reader.is_lost
    assert most < 2 * vector_decoder.WHOLE_BYTES


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"no gzip at all", "gzip"),
        (gzip.compress(BODY)[:-20], "gzip"),
        (BODY, "br"),
        (b"", "gzip"),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip"),
    ],
    # Bytes in a name differ from worker to worker: gzip writes the time.
    ids=["not-gzip", "cut-off", "unknown", "empty", "twice"],
)
def test_b1_coding_that_cannot_be_undone_is_no_answer(body, coding):
    """B1."""
    answer = received(body, coding=coding)
    with pytest.raises(errors.Unusable):
        answer.reader.vectors()


def test_b1_words_of_refusal_are_decoded_too():
    """B1, B7."""
    said = json.dumps({"error": "too many texts"}).encode()
    answer = received(gzip.compress(said), status=400, coding="gzip")
    assert answer.body == said


@pytest.mark.parametrize("status", [201, 202, 203, 206, 299])
def test_b1_another_2xx_is_answer(status):
    """B1."""
    answer = received(BODY, status=status)
    assert answer.reader.vectors().tokens == 2
    world = World(one("p"))
    world.net["p"].fault = lambda made: (status, {}, made[2])
    assert world.embed("a").vectors == expected("m", "a")


def test_b1_2xx_without_body_is_no_answer():
    """B1."""
    world = World(one("p"))
    world.net["p"].fault = lambda _: (204, {}, b"")
    assert world.refusal("a").status == 502


@pytest.mark.parametrize("count", [1, 60])
def test_b1_byte_order_mark_is_no_part_of_answer(count):
    """B1: of a short answer, and of one that is read as it comes."""
    row = [0.5] * 1000
    data = [{"index": at, "embedding": row} for at in range(count)]
    reader = vector_decoder.Reader(count=count, dimensions=None)
    reader.feed(b"\xef\xbb\xbf" + json.dumps({"data": data}).encode())
    found: vector_decoder.Vectors = reader.vectors()
    assert (len(found.vectors), found.tokens) == (count, None)
