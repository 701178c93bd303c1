"""Jina's embeddings endpoint.

Sources: jina.ai/embeddings (request, answer, tasks by model); api.jina.ai/openapi.json (codes of
errors, limits). base64 holds little-endian float32 (clients that decode it so).
"""

from typing import Any, Final

from embedding_contract import document
from embedding_sidecar.translation import provider_api, wire_format

LIMITS: Final = provider_api.Limits(items=2048, are_all=False)
"""No limit of tokens or bytes of a request is published."""
_WITHOUT_TASKS: Final = "jina-embeddings-v2"
"""Models of before the tasks."""


class Jina(wire_format.Translation):
    """The translation; `task` tells queries from documents."""

    vendor = "Jina"

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Its own words, and what it does by default said."""
        task = None
        if ask.input_type is not None and not to.model.startswith(_WITHOUT_TASKS):
            task = "retrieval.query" if ask.input_type == "query" else "retrieval.passage"
        return {
            "task": task,
            "dimensions": ask.dimensions,
            "truncate": ask.truncation is True,
        }

    def body(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """base64 by its own field: Jina answers 400 to `encoding_format`."""
        return {
            "model": ask.model,
            "input": ask.items,
            "embedding_type": None if ask.plain else "base64",
            **self.fields(ask, to),
            **wire_format.passed_on(ask),
        }
