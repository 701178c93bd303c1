"""The page of known models, written from the contract's table."""

from collections.abc import Iterator
from typing import Final

from embedding_contract import models

INTRODUCTION: Final = """# Known models

Models of the same space make vectors that can be compared, so that their providers stand in for
each other without consent. A model that is not here is used all the same: it is alone in its space
unless the policy names one, and without `pricePerMillionTokens` its price is unknown.

A price is in USD for a million tokens and counts at the vendor's own address; your account may pay
less. An end is the day on which the vendor retires the model at the earliest, as the page of its
source said when it was read: the condition `ModelRetires` and the alert `EmbeddingModelRetires`
tell of it.

| type and model | space | dimensions | price | retires |
|---|---|---|---|---|
"""


def text() -> str:
    """The whole page, without the notice."""
    return INTRODUCTION + "".join(_rows())


def _rows() -> Iterator[str]:
    for key, model in models.MODELS.items():
        price, end = model.price, model.end
        cells = (
            f"`{key}`",
            f"`{model.family}`",
            _sizes(model),
            ""
            if price is None
            else f"{price.usd_per_million_tokens} ({price.date}, {price.source})",
            "" if end is None else f"{end.date} (read {end.seen}, {end.source})",
        )
        yield f"| {' | '.join(cells)} |\n"


def _sizes(model: models.Model) -> str:
    if isinstance(model.sizes, range):
        return f"{model.dimensions}; {model.sizes.start} to {model.sizes[-1]}"
    others = [str(it) for it in model.sizes if it != model.dimensions]
    if others:
        return f"{model.dimensions}; {', '.join(others)}"
    return f"{model.dimensions} only" if model.sizes else str(model.dimensions)
