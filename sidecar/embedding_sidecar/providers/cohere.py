"""Cohere's v2 embed endpoint.

Sources: github.com/cohere-ai/cohere-developer-experience, cohere-openapi.yaml (request, answer,
items, statuses); docs.cohere.com/errors-reference. base64 holds little-endian float32: vLLM's
endpoint of the same form, vllm/entrypoints/pooling/embed/protocol.py.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.translation import error_words, http_status, provider_api, wire_format
from embedding_sidecar.translation.vector_decoder import Form, count

LIMITS: Final = provider_api.Limits(items=96, are_all=False)
"""No limit of tokens or bytes of a request is published."""
CANCELLED: Final = 499
"""The request was cancelled at Cohere's side, perhaps after its work."""
_OF_THE_MONTH: Final = "API calls / month"
"""A trial key's month is used up. Its 429 has no field but a message, and differs from that of the
minute by these words alone (github.com/diegosouzapw/OmniRoute/issues/12252)."""


def _entries(answer: Mapping[str, Any]) -> list[Any] | None:
    by_type = answer.get("embeddings")
    found = None
    if isinstance(by_type, dict):
        found = by_type.get("base64") or by_type.get("float")
    return [{"embedding": it} for it in found] if isinstance(found, list) else None


def _tokens(answer: Mapping[str, Any]) -> int | None:
    meta = answer.get("meta")
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    return count(billed, "input_tokens")


class Cohere(wire_format.Translation):
    """The translation; without `truncation` an error instead of Cohere's default, a silent cut."""

    vendor = "Cohere"
    form = Form(entries=_entries, tokens=_tokens)

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """All but model and texts; `output_dimension` is of embed-v4 and later.

        A side is required: documents, where the caller says nothing.
        """
        return {
            "input_type": "search_query" if ask.input_type == "query" else "search_document",
            "truncate": "END" if ask.truncation else "NONE",
            "output_dimension": wire_format.size(ask, to),
        }

    def body(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Texts, and base64 as the model's own bits, or floats where that is refused."""
        return {
            "model": ask.model,
            "texts": ask.items,
            "embedding_types": ["float" if ask.plain else "base64"],
            **self.fields(ask, to),
            **wire_format.passed_on(ask),
        }

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The endpoint's own name."""
        del credential
        return f"{to.base_url}/embed"

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """By status, as Cohere's errors have no code: a 404 is about the model."""
        words = error_words.said(answer.body)
        found: errors.ProviderFailed
        if answer.status == HTTPStatus.NOT_FOUND and error_words.has_form(answer.body):
            found = errors.ConfigurationError("not_found")
        elif answer.status == HTTPStatus.TOO_MANY_REQUESTS and _OF_THE_MONTH in words:
            found = errors.OutOfCredit("no_credit")
        elif answer.status == CANCELLED:
            found = errors.Unreachable("server_error", billed=True)
        else:
            return http_status.failure(answer)
        found.words = words
        return found
