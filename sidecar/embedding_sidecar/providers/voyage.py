"""Voyage's embeddings endpoint.

Source: docs.voyageai.com and mongodb.com/docs/api (request and answer, error codes).
"""

from types import MappingProxyType
from typing import Any, Final

from embedding_contract import document
from embedding_sidecar.translation import provider_api, wire_format

MAX_ITEMS: Final = 1000
MAX_TOKENS: Final = MappingProxyType(
    {
        "voyage-4-lite": 1_000_000,
        "voyage-3.5-lite": 1_000_000,
        "voyage-4": 320_000,
        "voyage-3.5": 320_000,
        "voyage-2": 320_000,
    }
)
"""Tokens in one request; every other model takes FEWEST_TOKENS. Source for both, and for the items:
docs.voyageai.com, text embeddings, parameter `input`. No limit of bytes is published."""
FEWEST_TOKENS: Final = 120_000


class Voyage(wire_format.Translation):
    """The translation."""

    vendor = "Voyage"

    def limits(self, model: str) -> provider_api.Limits:
        """Voyage's limits by model."""
        return provider_api.Limits(items=MAX_ITEMS, tokens=MAX_TOKENS.get(model, FEWEST_TOKENS))

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Its own names, and an error instead of Voyage's default, a silent cut."""
        del to
        # `passage` is NVIDIA's word for document.
        input_type = "document" if ask.input_type == "passage" else ask.input_type
        return {
            "truncation": ask.truncation is True,
            "output_dimension": ask.dimensions,
            "input_type": input_type,
        }

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The policy's, or that of Atlas for a key of its own."""
        called = document.called_url(kind=self.vendor, base_url=to.base_url, api_key=credential)
        return f"{called}/embeddings"
