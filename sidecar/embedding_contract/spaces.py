"""Vector spaces: which vectors may be compared with which.

Two vectors are comparable when the same model family made them with the same number of
dimensions. Dimensions alone say nothing: voyage-3 and text-embedding-3-small can both be asked
for 1024 numbers that have no common meaning.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# (type, model) -> (family, default dimensions).
# OpenAI: platform documentation of the embedding models, default sizes.
# Voyage: the voyage-4 family shares one space, as the vendor states (blog, 2026-01-15);
# older families are one space per model.
_KNOWN: Final[Mapping[tuple[str, str], tuple[str, int]]] = MappingProxyType(
    {
        ("OpenAI", "text-embedding-3-small"): ("openai/text-embedding-3-small", 1536),
        ("OpenAI", "text-embedding-3-large"): ("openai/text-embedding-3-large", 3072),
        ("OpenAI", "text-embedding-ada-002"): ("openai/text-embedding-ada-002", 1536),
        ("Voyage", "voyage-4-large"): ("voyage/voyage-4", 1024),
        ("Voyage", "voyage-4"): ("voyage/voyage-4", 1024),
        ("Voyage", "voyage-4-lite"): ("voyage/voyage-4", 1024),
        ("Voyage", "voyage-4-nano"): ("voyage/voyage-4", 1024),
        ("Voyage", "voyage-3-large"): ("voyage/voyage-3-large", 1024),
        ("Voyage", "voyage-3.5"): ("voyage/voyage-3.5", 1024),
        ("Voyage", "voyage-3.5-lite"): ("voyage/voyage-3.5-lite", 1024),
        ("Voyage", "voyage-3"): ("voyage/voyage-3", 1024),
        ("Voyage", "voyage-3-lite"): ("voyage/voyage-3-lite", 512),
        ("Voyage", "voyage-code-3"): ("voyage/voyage-code-3", 1024),
        ("Voyage", "voyage-finance-2"): ("voyage/voyage-finance-2", 1024),
        ("Voyage", "voyage-law-2"): ("voyage/voyage-law-2", 1024),
    }
)


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
    `<family>@<dimensions>` for a model in the built-in table; else a space of its own, made of
    type, URL and model.
    """
    if declared is not None:
        return declared if requested in (None, pinned) else f"{declared}@{requested}"
    dimensions = requested or pinned
    if (kind, model) in _KNOWN:
        family, default = _KNOWN[kind, model]
        return f"{family}@{dimensions or default}"
    return f"{kind}/{base_url}/{model}@{dimensions or 'default'}"


def default_dimensions(*, kind: str, model: str) -> int | None:
    """The default dimensions of this vendor's model, if known."""
    _, default = _KNOWN.get((kind, model), ("", None))
    return default
