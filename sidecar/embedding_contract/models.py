"""Known models: their vector space, sizes, list price and end, each with its source.

A model that is not here is used all the same: it is alone in its space, its price is unknown, and
nobody is told of its end. `docs/models.md` is made from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, as a decimal string, and the page that names the price.

    `date` is when the page says that it was right, in ISO 8601; the first of the month where it
    names only that.
    """

    usd_per_million_tokens: str
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class End:
    """The day on which the vendor retires a model, at the earliest, and the page that says so.

    Both days are in ISO 8601, and begin at 00:00 UTC; `seen` is when the page was read.
    """

    date: str
    source: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model at one type of provider. Models of one `family` make vectors of one space.

    `dimensions` is the default size; `sizes` are all that may be asked for, empty if not known.
    """

    family: str
    dimensions: int
    sizes: range | tuple[int, ...] = ()
    price: Price | None = None
    end: End | None = None


# Prices are list prices: what an account pays may be lower. Those of third parties quote the
# vendors' lists; a price for which no dated page was found is left out.
_OPENAI: Final = ("https://embeddingcost.com/openai", "2026-05-01")
_VOYAGE: Final = (
    "https://hivebook.wiki/wiki/voyage-ai-embeddings-rerankers-for-rag",
    "2026-05-01",
)
_VOYAGE_3_LITE: Final = (
    "https://tokenmix.ai/blog/text-embedding-models-comparison",
    "2026-04-29",
)
# Its model_prices_and_context_window_backup.json, which quotes the vendors' pages. For Azure it
# has the prices of the retail API of eastus, the higher of two that are quoted.
_LITELLM: Final = ("https://pypi.org/project/litellm/1.110.2/", "2026-11-30")
_MISTRAL: Final = ("https://github.com/mistralai/platform-docs-public", "2026-08-21")

_VOYAGE_ENDS: Final = ("https://docs.voyageai.com/docs/choose-a-model", "2026-11-30")
_VOYAGE_3_ENDS: Final = End("2027-12-01", *_VOYAGE_ENDS)
# Microsoft moves the day: its page said 2027-04-15 on 2026-07-07.
_AZURE_END: Final = End("2028-02-09", *_LITELLM)

_UP_TO_1536: Final = range(1, 1537)
_UP_TO_3072: Final = range(1, 3073)
_VOYAGE_SIZES: Final = (256, 512, 1024, 2048)
_GEMINI_SIZES: Final = range(128, 3073)

MODELS: Final[Mapping[str, Model]] = MappingProxyType(
    {
        # Spaces and default sizes of OpenAI: the platform's documentation of its models.
        "openai/text-embedding-3-small": Model(
            family="openai/text-embedding-3-small",
            dimensions=1536,
            sizes=_UP_TO_1536,
            price=Price("0.02", *_OPENAI),
        ),
        "openai/text-embedding-3-large": Model(
            family="openai/text-embedding-3-large",
            dimensions=3072,
            sizes=_UP_TO_3072,
            price=Price("0.13", *_OPENAI),
        ),
        "openai/text-embedding-ada-002": Model(
            family="openai/text-embedding-ada-002",
            dimensions=1536,
            sizes=(1536,),
            price=Price("0.10", *_OPENAI),
        ),
        # Azure's deployments run OpenAI's models, in versions that Microsoft names.
        "azureopenai/text-embedding-3-small": Model(
            family="openai/text-embedding-3-small",
            dimensions=1536,
            sizes=_UP_TO_1536,
            price=Price("0.022", *_LITELLM),
            end=_AZURE_END,
        ),
        "azureopenai/text-embedding-3-large": Model(
            family="openai/text-embedding-3-large",
            dimensions=3072,
            sizes=_UP_TO_3072,
            price=Price("0.143", *_LITELLM),
            end=_AZURE_END,
        ),
        "azureopenai/text-embedding-ada-002": Model(
            family="openai/text-embedding-ada-002",
            dimensions=1536,
            sizes=(1536,),
            price=Price("0.11", *_LITELLM),
            end=_AZURE_END,
        ),
        # The voyage-4 family shares one space, as the vendor states (blog, 2026-01-15; its models
        # for code and contexts are not named there). Older families are one space per model.
        "voyage/voyage-4-large": Model(
            family="voyage/voyage-4",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.12", *_VOYAGE),
        ),
        "voyage/voyage-4": Model(
            family="voyage/voyage-4",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.06", *_VOYAGE),
        ),
        "voyage/voyage-4-lite": Model(
            family="voyage/voyage-4",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.02", *_VOYAGE),
        ),
        "voyage/voyage-4-nano": Model(family="voyage/voyage-4", dimensions=1024),
        "voyage/voyage-code-4": Model(
            family="voyage/voyage-code-4",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.12", *_LITELLM),
        ),
        "voyage/voyage-3-large": Model(
            family="voyage/voyage-3-large",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.18", *_VOYAGE),
            end=_VOYAGE_3_ENDS,
        ),
        "voyage/voyage-3.5": Model(
            family="voyage/voyage-3.5",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.06", *_VOYAGE),
            end=_VOYAGE_3_ENDS,
        ),
        "voyage/voyage-3.5-lite": Model(
            family="voyage/voyage-3.5-lite",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.02", *_VOYAGE),
            end=_VOYAGE_3_ENDS,
        ),
        "voyage/voyage-3": Model(
            family="voyage/voyage-3", dimensions=1024, price=Price("0.06", *_LITELLM)
        ),
        "voyage/voyage-3-lite": Model(
            family="voyage/voyage-3-lite", dimensions=512, price=Price("0.02", *_VOYAGE_3_LITE)
        ),
        "voyage/voyage-code-3": Model(
            family="voyage/voyage-code-3",
            dimensions=1024,
            sizes=_VOYAGE_SIZES,
            price=Price("0.18", *_VOYAGE),
            end=End("2028-02-13", *_VOYAGE_ENDS),
        ),
        "voyage/voyage-code-2": Model(
            family="voyage/voyage-code-2",
            dimensions=1536,
            price=Price("0.12", *_LITELLM),
            end=_VOYAGE_3_ENDS,
        ),
        "voyage/voyage-finance-2": Model(
            family="voyage/voyage-finance-2",
            dimensions=1024,
            price=Price("0.12", *_VOYAGE),
            end=_VOYAGE_3_ENDS,
        ),
        "voyage/voyage-law-2": Model(
            family="voyage/voyage-law-2", dimensions=1024, price=Price("0.12", *_VOYAGE)
        ),
        # ai.google.dev, embeddings; the end by the page of deprecations that LiteLLM quotes.
        "gemini/gemini-embedding-001": Model(
            family="gemini/gemini-embedding-001",
            dimensions=3072,
            sizes=_GEMINI_SIZES,
            price=Price("0.15", *_LITELLM),
            end=End("2028-05-14", *_LITELLM),
        ),
        "gemini/gemini-embedding-2": Model(
            family="gemini/gemini-embedding-2",
            dimensions=3072,
            sizes=_GEMINI_SIZES,
            price=Price("0.20", *_LITELLM),
        ),
        # docs.cohere.com: the two of v5 share a space (changelog, embed-v5).
        "cohere/embed-v5.0-pro": Model(
            family="cohere/embed-v5",
            dimensions=2048,
            sizes=(256, 512, 768, 1024, 1536, 2048),
            price=Price("0.12", *_LITELLM),
        ),
        "cohere/embed-v5.0-fast": Model(
            family="cohere/embed-v5",
            dimensions=2048,
            sizes=(256, 512, 768, 1024, 1536, 2048),
            price=Price("0.08", *_LITELLM),
        ),
        "cohere/embed-v4.0": Model(
            family="cohere/embed-v4.0",
            dimensions=1536,
            sizes=(256, 512, 1024, 1536),
            price=Price("0.12", *_LITELLM),
        ),
        "cohere/embed-english-v3.0": Model(
            family="cohere/embed-english-v3.0",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_LITELLM),
        ),
        "cohere/embed-multilingual-v3.0": Model(
            family="cohere/embed-multilingual-v3.0",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_LITELLM),
        ),
        "cohere/embed-english-light-v3.0": Model(
            family="cohere/embed-english-light-v3.0",
            dimensions=384,
            sizes=(384,),
            price=Price("0.10", *_LITELLM),
        ),
        "cohere/embed-multilingual-light-v3.0": Model(
            family="cohere/embed-multilingual-light-v3.0", dimensions=384, sizes=(384,)
        ),
        # docs.mistral.ai; a dated name and its alias are one model.
        "mistral/mistral-embed": Model(
            family="mistral/mistral-embed",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_MISTRAL),
        ),
        "mistral/mistral-embed-2312": Model(
            family="mistral/mistral-embed",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_MISTRAL),
        ),
        "mistral/codestral-embed": Model(
            family="mistral/codestral-embed",
            dimensions=1536,
            sizes=_UP_TO_3072,
            price=Price("0.15", *_MISTRAL),
        ),
        "mistral/codestral-embed-2505": Model(
            family="mistral/codestral-embed",
            dimensions=1536,
            sizes=_UP_TO_3072,
            price=Price("0.15", *_MISTRAL),
        ),
        # jina.ai/models; no page with prices was found.
        "jina/jina-embeddings-v5-text-small": Model(
            family="jina/jina-embeddings-v5-text-small",
            dimensions=1024,
            sizes=(32, 64, 128, 256, 512, 1024),
        ),
        "jina/jina-embeddings-v5-text-nano": Model(
            family="jina/jina-embeddings-v5-text-nano", dimensions=768
        ),
        "jina/jina-embeddings-v4": Model(family="jina/jina-embeddings-v4", dimensions=2048),
        "jina/jina-embeddings-v3": Model(family="jina/jina-embeddings-v3", dimensions=1024),
        # AWS's model parameters. No page says that Cohere's models make the same vectors there as
        # at Cohere, so they have spaces of their own; a policy may say otherwise by `space`.
        "bedrock/amazon.titan-embed-text-v2:0": Model(
            family="bedrock/amazon.titan-embed-text-v2",
            dimensions=1024,
            sizes=(256, 512, 1024),
            price=Price("0.02", *_LITELLM),
        ),
        "bedrock/amazon.titan-embed-text-v1": Model(
            family="bedrock/amazon.titan-embed-text-v1",
            dimensions=1536,
            sizes=(1536,),
            price=Price("0.10", *_LITELLM),
        ),
        "bedrock/cohere.embed-v4:0": Model(
            family="bedrock/cohere.embed-v4",
            dimensions=1536,
            sizes=(256, 512, 1024, 1536),
            price=Price("0.12", *_LITELLM),
        ),
        "bedrock/cohere.embed-english-v3": Model(
            family="bedrock/cohere.embed-english-v3",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_LITELLM),
        ),
        "bedrock/cohere.embed-multilingual-v3": Model(
            family="bedrock/cohere.embed-multilingual-v3",
            dimensions=1024,
            sizes=(1024,),
            price=Price("0.10", *_LITELLM),
        ),
    }
)
"""The models by `provider/model`: the provider's type in lower case, as metrics name it."""


def find(provider: str, model: str) -> Model | None:
    """A model of a provider's type, in any case; None where it is not known."""
    return MODELS.get(f"{provider.lower()}/{model}")
