"""Upper bounds of the sizes of items, and the split of a request by a provider's limits."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, TypeVar

from embedding_sidecar.translation import provider_api

_TOKENS_AROUND_ITEM: Final = 8
_TOKENS_OF_PROMPT: Final = 64
"""Voyage puts a prompt of at most 57 characters before a text whose input_type is given."""
_BYTES_AROUND_ITEM: Final = 3
"""Two quotes and a comma."""
_BYTES_OF_TOKEN: Final = 11
"""Ten digits and a comma."""
_BYTES_OF_ESCAPE: Final = 6
"""JSON writes a control character as six: `\\u0000`."""

MOST_BYTES_OF_TOKEN: Final = 16
"""Average over a text, as openai_json.MAX_ITEM_BYTES counts."""

T = TypeVar("T")


def most_tokens(ask: provider_api.Ask) -> list[int]:
    """Upper bound of each item's tokens: no tokenizer makes more tokens than a text has bytes."""
    prompt = 0 if ask.input_type is None else _TOKENS_OF_PROMPT
    return [
        len(item.encode()) + _TOKENS_AROUND_ITEM + prompt if isinstance(item, str) else len(item)
        for item in ask.items
    ]


def shares(tokens: int, ask: provider_api.Ask) -> list[int]:
    """The billed tokens, split among the items by their size: whole numbers with that sum."""
    if len(ask.items) == 1:
        return [tokens]
    sizes = most_tokens(ask)
    whole = sum(sizes)
    marks = [tokens * size // whole for size in accumulate(sizes)]
    return [mark - before for before, mark in pairwise([0, *marks])]


def split(ask: provider_api.Ask, limits: provider_api.Limits) -> list[range]:
    """The items as parts that each fit one request, in order, as few as keeping the order allows.

    An item whose size may be too large goes alone: the size is an upper bound, so it may fit.
    """
    count = len(ask.items)
    if count == 1:
        return [range(1)]
    bounds = [(limits.items, [1] * count)]
    if limits.tokens is not None:
        bounds.append((limits.tokens, most_tokens(ask)))
    if limits.alone_from_tokens is not None:
        # Each item of that size fills a request.
        least = limits.alone_from_tokens
        bounds.append((count, [count if it >= least else 1 for it in most_tokens(ask)]))
    if limits.body_bytes is not None:
        bounds.append((limits.body_bytes, [most_bytes(item) for item in ask.items]))
    return list(_cut(count, bounds))


def _cut(count: int, bounds: Sequence[tuple[int, list[int]]]) -> Iterator[range]:
    start = 0
    sums = [0] * len(bounds)
    for index in range(count):
        sums = [held + sizes[index] for held, (_, sizes) in zip(sums, bounds, strict=True)]
        if index > start and any(held > most for held, (most, _) in zip(sums, bounds, strict=True)):
            yield range(start, index)
            start = index
            sums = [sizes[index] for _, sizes in bounds]
    yield range(start, count)


def most_bytes(item: provider_api.Item) -> int:
    """The bytes that an item has as JSON at most."""
    if not isinstance(item, str):
        return len(item) * _BYTES_OF_TOKEN + _BYTES_AROUND_ITEM
    # Quotes and backslashes become two, control characters six; all else stays as it is.
    escaped = sum(1 for it in item if it < " ") * _BYTES_OF_ESCAPE
    return len(item.encode()) + escaped + item.count('"') + item.count("\\") + _BYTES_AROUND_ITEM


def is_longer(item: provider_api.Item, *, tokens: int) -> bool:
    """True if an item certainly has more tokens than that: a text by MOST_BYTES_OF_TOKEN."""
    if isinstance(item, str):
        most_bytes = tokens * MOST_BYTES_OF_TOKEN
        return len(item) > most_bytes or len(item.encode()) > most_bytes
    return len(item) > tokens
