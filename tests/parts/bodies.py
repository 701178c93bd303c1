"""Bodies for POST /v1/embeddings: valid ones, and valid ones with something changed."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from embedding_sidecar.openai_format import openai_json

_NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
_WORDS = st.sampled_from(
    [
        *sorted(openai_json.KEYS),
        *openai_json.VOYAGE_KEYS,
        *openai_json.ENCODINGS,
        *openai_json.INPUT_TYPES,
        "no-cache",
        "ttl",
    ]
)
JUNK = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(max_size=8) | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | _WORDS, inner, max_size=4)
    ),
    max_leaves=8,
)
TEXT = st.text(min_size=1, max_size=20)
TOKENS = st.lists(st.integers(0, openai_json.MAX_TOKEN), min_size=1, max_size=6)
SECONDS = st.none() | st.integers(0, 2**31)
CACHE = st.fixed_dictionaries(
    {},
    optional={
        "no-cache": st.none() | st.booleans(),
        "no-store": st.none() | st.booleans(),
        "ttl": SECONDS,
        "s-maxage": SECONDS,
    },
)


def valid(models: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """What every server of this form takes, and what only ours takes."""
    return st.fixed_dictionaries(
        {
            "model": st.sampled_from(models),
            "input": TEXT
            | st.lists(TEXT, min_size=1, max_size=6)
            | TOKENS
            | st.lists(TOKENS, min_size=1, max_size=4),
        },
        optional={
            "encoding_format": st.sampled_from([*openai_json.ENCODINGS, None]),
            "dimensions": st.none() | st.integers(1, 64),
            "user": st.none() | TEXT,
            "input_type": st.sampled_from([*openai_json.INPUT_TYPES, None]),
            "truncation": st.none() | st.booleans(),
            "cache": st.none() | CACHE,
        },
    )


@st.composite
def any_body(draw: st.DrawFn, models: Sequence[str]) -> dict[str, Any]:
    """A valid body in which up to three things were changed, anywhere."""
    body = draw(valid(models))
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, body)
    return body


def _change(draw: st.DrawFn, body: dict[str, Any]) -> None:
    keys = st.sampled_from([*sorted(openai_json.KEYS), *openai_json.VOYAGE_KEYS]) | st.text(
        max_size=5
    )
    key = draw(keys)
    inside = body.get(key)
    what = draw(st.sampled_from(["replace", "drop", "inside"]))
    if what == "drop":
        body.pop(key, None)
    elif what == "inside" and isinstance(inside, list) and inside:
        changed = list(inside)
        changed[draw(st.integers(0, len(inside) - 1))] = draw(JUNK)
        body[key] = changed
    elif what == "inside" and isinstance(inside, dict):
        body[key] = {**inside, draw(_WORDS | st.text(max_size=5)): draw(JUNK)}
    else:
        body[key] = draw(JUNK)
