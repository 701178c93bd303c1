"""OpenAI's embeddings endpoint, and every compatible server.

Source: OpenAI's OpenAPI description (CreateEmbeddingRequest, Error) and its page on error codes.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from embedding_contract import document
from embedding_sidecar.translation import provider_api, wire_format

LIMITS: Final = provider_api.Limits(items=2048, tokens=300_000)
"""Source: the same description, CreateEmbeddingRequest.input. No limit of bytes is published."""
EXTENDED_LIMITS: Final = provider_api.Limits(
    items=2048, tokens=300_000, body_bytes=2_000_000, are_all=False
)
"""OpenAI's, and the default --payload-limit of Hugging Face's text-embeddings-inference, the lowest
known. A server with a lower limit answers 413, and gets halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI(wire_format.Translation):
    """The translation; `extended` servers are sent `input_type` and `truncation` where given.

    OpenAI itself answers 400 to keys it does not know. Leaving both out there changes no vector:
    its models make no difference between queries and documents, and never cut a text silently.
    """

    vendor = "OpenAI"
    takes_tokens = True
    extended: bool

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return EXTENDED_LIMITS if self.extended else LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """OpenAI's, and those of `extended` servers."""
        found: dict[str, Any] = {"dimensions": ask.dimensions}
        if ask.user is not None:
            found["user"] = ask.user
        if not self.extended:
            return found
        if ask.input_type is not None:
            found |= _input_type(ask.input_type, to.base_url)
        return {**found, "truncation": ask.truncation}


def _input_type(word: str, base_url: str) -> dict[str, str]:
    """The field and the word by which a server tells queries from documents.

    Sources: NVIDIA's NIM reference (input_type query or passage), Jina's API reference (task).
    Other servers, which may be NIM on another host, get the caller's own word.
    """
    host = urlsplit(base_url).hostname or ""
    side = "query" if word == "query" else "passage"
    if host == "jina.ai" or host.endswith(".jina.ai"):
        return {"task": f"retrieval.{side}"}
    return {"input_type": side if host.endswith(".nvidia.com") else word}
