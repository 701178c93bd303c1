"""Google's Gemini API in its native form, which knows the sides of a search and states usage.

Sources: ai.google.dev/api/embeddings and google-genai 3.6.1, models.py (URL, body, answer); the
limit of a batch: github.com/geldata/gel/issues/9032; usageMetadata: live answers in
github.com/maximhq/bifrost/issues/7295. The same models behind `/openai` are of the type
OpenAICompatible. Vectors are used as they come: those of gemini-embedding-001 have unit length
with 3072 numbers only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from embedding_contract import document
from embedding_sidecar.translation import provider_api, vector_decoder, wire_format

LIMITS: Final = provider_api.Limits(items=100, are_all=False)
"""No limit of tokens or bytes of a batch is published."""
_TASKS: Final[Mapping[str | None, str]] = MappingProxyType(
    {
        "query": "RETRIEVAL_QUERY",
        "document": "RETRIEVAL_DOCUMENT",
        "passage": "RETRIEVAL_DOCUMENT",
    }
)
_WITHOUT_TASKS: Final = "gemini-embedding-2"
"""Its vectors are the same with any taskType: a task is written into the text. Sources:
ai.google.dev/gemini-api/docs/embeddings; github.com/embeddings-benchmark/mteb/pull/4851."""


def _tokens(answer: Mapping[str, Any]) -> int | None:
    return vector_decoder.count(answer.get("usageMetadata"), "promptTokenCount", "totalTokenCount")


class Gemini(wire_format.Translation):
    """The translation; each text is a request of a batch, or one vector would answer for all.

    `truncation` is left out: the Developer API has no such field.
    """

    vendor = "Gemini"
    form = vector_decoder.Form("embeddings", "values", tokens=_tokens)

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Those of each text; the batch has none."""
        with_task = not to.model.removeprefix("models/").startswith(_WITHOUT_TASKS)
        return {
            "taskType": _TASKS.get(ask.input_type) if with_task else None,
            "outputDimensionality": ask.dimensions,
        }

    def body(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """A batch. There is no other encoding than floats."""
        beside: dict[str, Any] = {"model": f"models/{to.model.removeprefix('models/')}"}
        beside |= {name: it for name, it in self.fields(ask, to).items() if it is not None}
        beside |= wire_format.passed_on(ask)
        return {"requests": [{**beside, "content": {"parts": [{"text": it}]}} for it in ask.items]}

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The model's batches."""
        del credential
        model = quote(to.model.removeprefix("models/"), safe="")
        return f"{to.base_url}/models/{model}:batchEmbedContents"

    def headers(self, to: document.Provider, *, credential: str | None) -> Mapping[str, str]:
        """The key in a header of Google's own."""
        del to
        plain = provider_api.headers(None)
        return plain if credential is None else {**plain, "x-goog-api-key": credential}
