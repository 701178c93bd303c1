"""What a store answers to a claim is a count of that claim, or nothing that is believed."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.quotas import quota_store
from embedding_sidecar.quotas.claims import Amounts, Count

WORDS = st.none() | st.booleans() | st.integers() | st.binary() | st.text() | st.floats()
WHOLE = [7, 20_000, 1500, 16, 2, 0, 30, 4, 10, 1, b"one.1", 5, 1]


def test_a_count_is_read_word_by_word():
    assert quota_store._count(WHOLE, sequence=7) == Count(
        day=20_000,
        day_ends_in_seconds=1.5,
        held=Amounts(16, 2),
        short="",
        counted=Amounts(30, 4),
        spent=Amounts(10, 1),
        incarnation="one.1",
        revision=5,
        forgot=True,
    )


def test_a_count_of_another_claim_is_none():
    assert quota_store._count(WHOLE, sequence=8) is None


@given(st.recursive(WORDS, lambda it: st.lists(it, max_size=14)))
def test_what_is_no_count_is_none(answer):
    assert quota_store._count(answer, sequence=7) is None


@given(at=st.integers(min_value=0, max_value=12), word=WORDS, left_out=st.booleans())
def test_a_count_in_which_a_word_is_of_another_type_or_left_out_is_none(at, word, left_out):
    count = [*WHOLE[:at], *([] if left_out else [word]), *WHOLE[at + 1 :]]
    is_whole = [type(it) for it in count] == [type(it) for it in WHOLE]
    found = quota_store._count(count, sequence=7)
    assert isinstance(found, Count) or found is None
    assert found is None or is_whole
