"""A store's answer to a claim is a count of that claim, or it is not trusted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claims import Amounts, LeaseClaim, LeaseReply, Limits
from embedding_sidecar.quota.periods import DAY_SECONDS

WORDS = st.none() | st.booleans() | st.integers() | st.binary() | st.text() | st.floats()
CLAIM = LeaseClaim(
    scope="s",
    lease="one",
    sequence=7,
    number=20_000,
    limits=Limits(60, None),
    floor=Amounts(4, 2),
    spent=Amounts(4, 2),
    need=Amounts(1),
    want=Amounts(16),
)
WHOLE = [7, 20_000, 1500, 16, 2, 0, 0, 30, 4, 0, 10, 1, 0, b"one.1", 5, 1]


def test_count_is_read_word_by_word():
    assert quota_store._count(WHOLE, claim=CLAIM) == LeaseReply(
        number=20_000,
        ends_in_seconds=1.5,
        held=Amounts(16, 2),
        short="",
        counted=Amounts(30, 4),
        spent=Amounts(10, 1),
        incarnation="one.1",
        revision=5,
        forgot=True,
    )


def test_count_of_another_claim_is_not_believed():
    assert quota_store._count(WHOLE, claim=replace(CLAIM, sequence=8)) is None


@given(st.recursive(WORDS, lambda it: st.lists(it, max_size=17)))
def test_reply_that_is_no_count_is_none(answer):
    found = quota_store._count(answer, claim=CLAIM)
    assert found is None or list(map(type, answer)) == [int, bytes]


def test_field_that_cannot_be_is_named():
    assert quota_store._count([7, b"calls"], claim=CLAIM) == "calls"
    assert quota_store._count([8, b"calls"], claim=CLAIM) is None
    named = quota_store._count([7, b"\xff" * 10_000], claim=CLAIM)
    assert isinstance(named, str)
    assert len(named) < 100


LARGE = 10**12 + 1


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (1, -1),
        (1, 10**9),
        (2, -1),
        (2, DAY_SECONDS * 1000 + 1),
        (3, -1),
        (3, 21),
        (3, 31),
        (4, 5),
        (4, -2),
        (5, 1),
        (5, -1),
        (7, LARGE),
        (7, 15),
        (7, -1000),
        (8, LARGE),
        (8, 1),
        (9, 1000 * LARGE),
        (9, -1),
        (10, 31),
        (10, -1),
        (11, 5),
        (11, -5),
        (12, 1),
        (12, -1),
        (13, b"x" * 65),
        (14, -1),
        (14, LARGE),
    ],
)
def test_count_that_cannot_be_is_not_spent_from(at, said):
    """D5: a store that lies. Each figure alone: negative, above the bound, or beside the others."""
    assert quota_store._count([*WHOLE[:at], said, *WHOLE[at + 1 :]], claim=CLAIM) == "an answer"


def test_grant_above_limit_is_not_spent_from():
    low = replace(CLAIM, limits=Limits(15, None))
    assert quota_store._count(WHOLE, claim=low) == "an answer"
    # What was counted before the limit was lowered is still held.
    floor = replace(low, floor=Amounts(16, 2))
    assert isinstance(quota_store._count(WHOLE, claim=floor), LeaseReply)


def test_floor_of_another_day_counts_as_nothing():
    yesterday = replace(CLAIM, number=19_999)
    assert quota_store._count(WHOLE, claim=yesterday) == "an answer"


@given(at=st.integers(min_value=0, max_value=15), word=WORDS, left_out=st.booleans())
def test_count_in_which_word_is_of_another_type_or_left_out_is_none(at, word, left_out):
    count = [*WHOLE[:at], *([] if left_out else [word]), *WHOLE[at + 1 :]]
    is_whole = [type(it) for it in count] == [type(it) for it in WHOLE]
    found = quota_store._count(count, claim=CLAIM)
    assert found is None or is_whole
