"""List prices of known models, for costs where a policy names no price of its own.

List prices only: what an account pays may be lower. A model that is not in the table has no known
price, which is shown as "?" and never as 0. The sources are pages of third parties that quote the
vendors' price lists; a model for which no dated page was found is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_OPENAI: Final = ("https://embeddingcost.com/openai", "2026-05-01")
_VOYAGE: Final = (
    "https://hivebook.wiki/wiki/voyage-ai-embeddings-rerankers-for-rag",
    "2026-05-01",
)
_VOYAGE_3_LITE: Final = (
    "https://tokenmix.ai/blog/text-embedding-models-comparison",
    "2026-04-29",
)


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, as a decimal string, and the page that names the price.

    `date` is when the page says that it was right, in ISO 8601; the first of the month where it
    names only that.
    """

    usd_per_million_tokens: str
    source: str
    date: str


PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "openai/text-embedding-3-small": Price("0.02", *_OPENAI),
        "openai/text-embedding-3-large": Price("0.13", *_OPENAI),
        "openai/text-embedding-ada-002": Price("0.10", *_OPENAI),
        "voyage/voyage-4-large": Price("0.12", *_VOYAGE),
        "voyage/voyage-4": Price("0.06", *_VOYAGE),
        "voyage/voyage-4-lite": Price("0.02", *_VOYAGE),
        "voyage/voyage-3.5": Price("0.06", *_VOYAGE),
        "voyage/voyage-3.5-lite": Price("0.02", *_VOYAGE),
        "voyage/voyage-3-large": Price("0.18", *_VOYAGE),
        "voyage/voyage-3-lite": Price("0.02", *_VOYAGE_3_LITE),
        "voyage/voyage-code-3": Price("0.18", *_VOYAGE),
        "voyage/voyage-finance-2": Price("0.12", *_VOYAGE),
        "voyage/voyage-law-2": Price("0.12", *_VOYAGE),
    }
)
"""The prices by `provider/model`: the provider's type in lower case, as metrics name it."""

AS_OF: Final = min(price.date for price in PRICES.values())
"""The day of the oldest price of the table."""


def find(provider: str, model: str) -> Price | None:
    """The list price of a model of a provider's type, in any case; None where none is known."""
    return PRICES.get(f"{provider.lower()}/{model}")
