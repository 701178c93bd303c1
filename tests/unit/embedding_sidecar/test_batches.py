"""The split of a request by the limits of a provider."""

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.engine import batches
from embedding_sidecar.translation import provider_api

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TOKENS = st.lists(st.integers(0, 2**31 - 1), min_size=1).map(tuple)
ITEMS = st.lists(TEXTS | TOKENS, min_size=1, max_size=30)


def ask(items, **rest) -> provider_api.Ask:
    return provider_api.Ask(model="m", items=tuple(items), **rest)


@given(
    ITEMS,
    st.builds(
        provider_api.Limits,
        items=st.integers(1, 10),
        tokens=st.none() | st.integers(1, 200),
        body_bytes=st.none() | st.integers(1, 200),
    ),
    st.sampled_from([None, "query"]),
)
def test_parts_hold_all_items_in_order_and_each_fits_unless_it_is_alone(items, limits, input_type):
    asked = ask(items, input_type=input_type)
    parts = batches.split(asked, limits)
    assert [index for part in parts for index in part] == list(range(len(items)))
    for part in parts:
        held = [items[index] for index in part]
        assert len(held) <= limits.items
        if len(held) == 1:
            continue
        assert sum(batches.most_tokens(ask(held, input_type=input_type))) <= (limits.tokens or 1e9)
        assert len(orjson.dumps(held)) - 2 <= (limits.body_bytes or 1e9)


@given(ITEMS, st.integers(1, 200))
def test_no_part_could_have_taken_next_item_too(items, most):
    parts = batches.split(ask(items), provider_api.Limits(items=10, tokens=most))
    for part, after in itertools.pairwise(parts):
        more = [items[index] for index in (*part, after[0])]
        assert len(more) > 10 or sum(batches.most_tokens(ask(more))) > most


def test_item_that_alone_may_be_too_large_travels_alone():
    parts = batches.split(ask(["a", "b" * 1000, "c"]), provider_api.Limits(items=10, tokens=100))
    assert parts == [range(1), range(1, 2), range(2, 3)]


@given(st.integers(0, 10**9), ITEMS, st.sampled_from([None, "query"]))
def test_billed_tokens_are_split_without_remainder(total, items, input_type):
    parts = batches.shares(total, ask(items, input_type=input_type))
    assert sum(parts) == total
    assert min(parts) >= 0
