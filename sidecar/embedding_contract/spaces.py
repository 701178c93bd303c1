"""Vector spaces: which vectors may be compared with which.

Two vectors are comparable when the same model family made them with the same number of
dimensions. Dimensions alone say nothing: voyage-3 and text-embedding-3-small can both be asked
for 1024 numbers that have no common meaning.
"""

from embedding_contract import models


def space_of(
    *,
    kind: str,
    model: str,
    base_url: str,
    declared: str | None = None,
    pinned: int | None = None,
    requested: int | None = None,
) -> str:
    """The name of the space of the vectors this model makes.

    `declared` is the space the policy's author wrote, which is trusted; `pinned` and `requested`
    are dimensions set by the policy and by a caller, equal if both are given.

    The name is `declared`, with `@requested` where only the caller fixes the size; else
    `<family>@<dimensions>` for a known model; else a space of its own, made of
    type, URL and model.
    """
    if declared is not None:
        return declared if requested in (None, pinned) else f"{declared}@{requested}"
    dimensions = requested or pinned
    known = models.find(kind, model)
    if known is not None:
        return f"{known.family}@{dimensions or known.dimensions}"
    return f"{kind}/{base_url}/{model}@{dimensions or 'default'}"


def default_dimensions(*, kind: str, model: str) -> int | None:
    """The default dimensions of this vendor's model, if known."""
    known = models.find(kind, model)
    return None if known is None else known.dimensions
