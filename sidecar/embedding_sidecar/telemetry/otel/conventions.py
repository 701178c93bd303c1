"""Names and buckets of the semantic conventions for generative AI, in status Development.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/client-embeddings.md
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from embedding_contract import sockets

SCOPE: Final = "embedding_sidecar"
OPERATION: Final = "embeddings"
PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai": "openai",
        "azureopenai": "azure.ai.openai",
        "openaicompatible": "openai_compatible",
        "voyage": "voyage_ai",
    }
)
"""Names by the metrics' word for a provider's type. The conventions list only the first two."""
NO_PROVIDER: Final = "none"
"""The provider of a request that was refused before one was chosen."""
DURATION: Final = "gen_ai.client.embeddings.duration"
INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))

Attributes = Mapping[str, str | int]


def provider_name(word: str) -> str:
    """The value of `gen_ai.provider.name` for a provider's type."""
    return PROVIDERS.get(word, word) or NO_PROVIDER


@lru_cache(maxsize=256)
def operation(provider: str, model: str, error: str = "") -> Attributes:
    """The attributes that spans and metrics of an operation share; `error` is its `error.type`."""
    found = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": provider_name(provider)}
    if model:
        found |= {"gen_ai.request.model": model, "gen_ai.response.model": model}
    if error:
        found["error.type"] = error
    return MappingProxyType(found)


@lru_cache(maxsize=64)
def server(url: str) -> Attributes:
    """The attributes of an HTTP request to a provider."""
    parts = urlsplit(url)
    return MappingProxyType(
        {
            "http.request.method": "POST",
            "server.address": parts.hostname or "",
            "server.port": parts.port or sockets.DEFAULT_PORTS.get(parts.scheme, 0),
        }
    )
