"""OpenAI's embeddings endpoint, and every compatible server.

Source: OpenAI's OpenAPI description (CreateEmbeddingRequest, Error) and its page on error codes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from embedding_sidecar import errors
from embedding_sidecar.translation import error_words, http_status, provider_api, vector_decoder

LIMITS: Final = provider_api.Limits(items=2048, tokens=300_000)
"""Source: the same description, CreateEmbeddingRequest.input. No limit of bytes is published."""
EXTENDED_LIMITS: Final = provider_api.Limits(items=2048, tokens=300_000, body_bytes=2_000_000)
"""OpenAI's, and the default --payload-limit of Hugging Face's text-embeddings-inference, the lowest
known. A server with a lower limit answers 413, and gets halves."""

_SPENT: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
"""Codes of a 429 that waiting does not cure. Source: OpenAI's page on error codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """The translation; `extended` servers are sent `input_type` and `truncation` where given.

    OpenAI itself answers 400 to keys it does not know. Leaving both out there changes no vector:
    its models make no difference between queries and documents, and never cut a text silently.
    """

    extended: bool

    def obstacle(self, items: Collection[provider_api.Item]) -> errors.UnsupportedInput | None:
        """None: this endpoint takes all items."""
        del items
        return None

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return EXTENDED_LIMITS if self.extended else LIMITS

    def request(
        self, ask: provider_api.Ask, *, base_url: str, api_key: str | None
    ) -> provider_api.HttpRequest:
        """A request for base64, so that vectors come as the model's own bits.

        Some servers ignore that and answer in floats.
        """
        body: dict[str, Any] = {"model": ask.model, "input": ask.items}
        if not ask.plain:
            body["encoding_format"] = "base64"
        if ask.dimensions is not None:
            body["dimensions"] = ask.dimensions
        if ask.user is not None:
            body["user"] = ask.user
        if self.extended and ask.input_type is not None:
            name, word = _input_type(ask.input_type, base_url)
            body[name] = word
        if self.extended and ask.truncation is not None:
            body["truncation"] = ask.truncation
        for name, value in ask.extra:
            body[name] = orjson.Fragment(value)
        return provider_api.HttpRequest(
            url=f"{base_url}/embeddings",
            body=orjson.dumps(body),
            headers=provider_api.headers(api_key),
            reader=vector_decoder.Reader(count=len(ask.items), dimensions=ask.dimensions),
        )

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """The error by status; a 429 by its code, too. A 400, 413 or 422 is relayed."""
        error = error_words.error_of(answer.body)
        if answer.status == http_status.RATE_LIMITED and _SPENT & {
            http_status.text(error.get("code")),
            http_status.text(error.get("type")),
        }:
            return errors.OutOfCredit("no_credit")
        if answer.status not in http_status.CALLERS_FAULT or http_status.is_of_the_policy(error):
            return http_status.failure(answer)
        return http_status.rejected(answer, code=http_status.text(error.get("code")))


def _input_type(word: str, base_url: str) -> tuple[str, str]:
    """The field and the word by which a server tells queries from documents.

    Sources: NVIDIA's NIM reference (input_type query or passage), Jina's API reference (task).
    Other servers, which may be NIM on another host, get the caller's own word.
    """
    host = urlsplit(base_url).hostname or ""
    is_query = word == "query"
    if host == "jina.ai" or host.endswith(".jina.ai"):
        return "task", "retrieval.query" if is_query else "retrieval.passage"
    if host.endswith(".nvidia.com"):
        return "input_type", "query" if is_query else "passage"
    return "input_type", word
