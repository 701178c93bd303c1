"""Voyage's embeddings endpoint.

Source: docs.voyageai.com and mongodb.com/docs/api (request and answer, error codes).
"""

from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api, vector_decoder

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


@dataclass(frozen=True, slots=True)
class Voyage:
    """The translation."""

    def obstacle(self, items: Collection[provider_api.Item]) -> errors.UnsupportedInput | None:
        """Voyage takes texts only."""
        if any(isinstance(item, tuple) for item in items):
            return errors.UnsupportedInput(
                "takes_no_tokens",
                obstacle="Voyage takes texts, not token arrays; send texts (in LangChain, by "
                "check_embedding_ctx_length=False).",
            )
        return None

    def limits(self, model: str) -> provider_api.Limits:
        """Voyage's limits by model."""
        return provider_api.Limits(items=MAX_ITEMS, tokens=MAX_TOKENS.get(model, FEWEST_TOKENS))

    def request(
        self, ask: provider_api.Ask, *, base_url: str, api_key: str | None
    ) -> provider_api.HttpRequest:
        """A request for base64, and for an error instead of Voyage's default, a silent cut."""
        body: dict[str, Any] = {
            "model": ask.model,
            "input": ask.items,
            "truncation": ask.truncation is True,
        }
        if not ask.plain:
            body["encoding_format"] = "base64"
        if ask.dimensions is not None:
            body["output_dimension"] = ask.dimensions
        if ask.input_type is not None:
            # `passage` is NVIDIA's word for the same.
            body["input_type"] = "query" if ask.input_type == "query" else "document"
        for name, value in ask.extra:
            body[name] = orjson.Fragment(value)
        called = document.called_url(kind="Voyage", base_url=base_url, api_key=api_key)
        return provider_api.HttpRequest(
            url=f"{called}/embeddings",
            body=orjson.dumps(body),
            headers=provider_api.headers(api_key),
            reader=vector_decoder.Reader(count=len(ask.items), dimensions=ask.dimensions),
        )

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """The error by status; a 400, 413 or 422 is relayed."""
        if answer.status not in http_status.CALLERS_FAULT:
            return http_status.failure(answer)
        return http_status.rejected(answer)
