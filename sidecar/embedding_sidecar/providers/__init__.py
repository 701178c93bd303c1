"""The providers, by the resource's word for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from embedding_sidecar.providers import (
    azure_openai,
    bedrock,
    cohere,
    gemini,
    jina,
    mistral,
    openai,
    voyage,
)
from embedding_sidecar.translation import wire_format

PROVIDERS: Final[Mapping[str, wire_format.Translation]] = MappingProxyType(
    {
        "OpenAI": openai.OpenAI(extended=False),
        "Voyage": voyage.Voyage(),
        "AzureOpenAI": azure_openai.AzureOpenAI(),
        "Gemini": gemini.Gemini(),
        "Cohere": cohere.Cohere(),
        "Mistral": mistral.Mistral(),
        "Jina": jina.Jina(),
        "Bedrock": bedrock.Bedrock(),
        "OpenAICompatible": openai.OpenAI(extended=True),
    }
)
