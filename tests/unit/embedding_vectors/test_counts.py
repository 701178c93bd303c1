"""Counts of a target follow the states of its rows, whatever set them."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_vectors.backfill import counts

STATES = ("pending", "done", "parked", counts.DELETED)


@given(st.lists(st.lists(st.sampled_from(STATES[:3]), min_size=1), max_size=8), st.data())
def test_sum_of_differences_is_count(histories, data):
    """Each history is one row's states; it is counted after any of them, and after the last."""
    total = [0, 0, 0]
    for history in histories:
        counted = None
        for state in history:
            if data.draw(st.booleans()) or state is history[-1]:
                added = counts.difference([(counted, state)])
                total = [a + b for a, b in zip(total, _of(added), strict=True)]
                counted = state
    last = [it[-1] for it in histories]
    assert total == [len(last), last.count("done"), last.count("parked")]


@given(st.sampled_from(STATES[:3]))
def test_deleted_row_takes_its_count_along(state):
    there, gone = counts.difference([(None, state)]), counts.difference([(state, counts.DELETED)])
    assert [a + b for a, b in zip(_of(there), _of(gone), strict=True)] == [0, 0, 0]


def test_row_that_was_never_counted_and_is_deleted_counts_nothing():
    assert _of(counts.difference([(None, counts.DELETED)])) == [0, 0, 0]


def _of(added: counts.Difference) -> list[int]:
    return [added.rows, added.done, added.parked]
