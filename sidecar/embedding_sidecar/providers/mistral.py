"""Mistral's embeddings endpoint.

Sources: github.com/mistralai/platform-docs-public, openapi.yaml (request, answer) and its pages on
errors and code embeddings; the texts of a request: rig-core 0.42.0, providers/mistral/embedding.rs;
the tokens of a request: github.com/chroma-core/chroma/pull/5597.
"""

from typing import Any, Final

from embedding_contract import document
from embedding_sidecar.translation import provider_api, wire_format

LIMITS: Final = provider_api.Limits(items=256, tokens=65_536, are_all=False)
"""The API takes 16,384 tokens in all. They are counted here by their bound, a text's bytes, of
which running text has four a token; a request that is refused all the same is halved."""


class Mistral(wire_format.Translation):
    """The translation; fields that it does not know, as `user`, are a 422, and left out.

    `input_type` and `truncation` are left out, too: the models make no difference by the first, and
    too long a text is always an error.
    """

    vendor = "Mistral"

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Its own word for dimensions, of codestral-embed."""
        return {"output_dimension": wire_format.size(ask, to)}
