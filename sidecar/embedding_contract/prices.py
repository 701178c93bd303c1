"""List prices of known models, for costs where a policy names no price of its own.

List prices only: what an account pays may be lower. A model that is not in the table has no known
price, which is shown as "?" and never as 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

AS_OF: Final = "2026-11-29"
"""The day on which the prices were last compared with their sources."""

_OPENAI: Final = "https://embeddingcost.com/"
_VOYAGE: Final = "https://docs.voyageai.com/pricing"
_VOYAGE_4: Final = "https://usagepricing.com/blueprint/voyage-ai"
_VOYAGE_3: Final = "https://hivebook.wiki/wiki/voyage-ai-embeddings-rerankers-for-rag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD for a million tokens, as a decimal string; the page that says so, read on `date`."""

    usd_per_million_tokens: str
    source: str
    date: str = AS_OF


def _price(usd: str, source: str) -> Price:
    return Price(usd_per_million_tokens=usd, source=source)


PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "openai/text-embedding-3-small": _price("0.02", _OPENAI),
        "openai/text-embedding-3-large": _price("0.13", _OPENAI),
        "openai/text-embedding-ada-002": _price("0.10", _OPENAI),
        "voyage/voyage-4-large": _price("0.12", _VOYAGE_4),
        "voyage/voyage-4": _price("0.06", _VOYAGE_4),
        "voyage/voyage-4-lite": _price("0.02", _VOYAGE_4),
        "voyage/voyage-3.5": _price("0.06", _VOYAGE_3),
        "voyage/voyage-3.5-lite": _price("0.02", _VOYAGE_3),
        "voyage/voyage-3-large": _price("0.18", _VOYAGE_3),
        "voyage/voyage-code-3": _price("0.18", _VOYAGE_3),
        "voyage/voyage-3": _price("0.06", _VOYAGE),
        "voyage/voyage-3-lite": _price("0.02", _VOYAGE),
        "voyage/voyage-finance-2": _price("0.12", _VOYAGE),
        "voyage/voyage-law-2": _price("0.12", _VOYAGE),
    }
)
"""By `provider/model`: the provider's type in lower case, as metrics name it."""


def find(provider: str, model: str) -> Price | None:
    """The list price of a model of a provider's type, in any case; None where none is known."""
    return PRICES.get(f"{provider.lower()}/{model}")
