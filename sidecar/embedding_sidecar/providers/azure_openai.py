"""Azure OpenAI's embeddings endpoint: a deployment is called, which runs a model of OpenAI.

Sources: github.com/Azure/azure-rest-api-specs, Azure OpenAI inference, 2024-10-21 (request, answer,
items); learn.microsoft.com/azure/ai-foundry/openai/how-to/embeddings and api-version-lifecycle (the
v1 form); openai-python, lib/azure.py (URL and headers). Errors: `http_status`.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from embedding_contract import document, provider_terms
from embedding_sidecar.translation import provider_api, wire_format

LIMITS: Final = provider_api.Limits(items=2048, tokens=300_000)
"""Source of the items: the specification, `input.maxItems`. The tokens are OpenAI's: Microsoft's
pages name none for a request, and a 400 is halved."""
DATED_VERSION: Final = "2024-10-21"
"""The latest dated version that is generally available (api-version-lifecycle). It is called with
an access token where no other is named, as the v1 form's embeddings take none: a note of
learn.microsoft.com/azure/ai-services/openai/how-to/embeddings, seen in copies on 2026-11-30."""
_V1: Final = "/v1"
_OPENAI: Final = "/openai"


class AzureOpenAI(wire_format.Translation):
    """The translation; the policy's `model` is what the deployment runs, and is not sent.

    `input_type` and `truncation` are left out as with OpenAI, whose models make no difference by
    them.
    """

    vendor = "AzureOpenAI"
    takes_tokens = True

    def limits(self, model: str) -> provider_api.Limits:
        """The same for every model."""
        del model
        return LIMITS

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """OpenAI's, and the deployment in place of the model, which the dated form has in its URL.

        openai-python leaves the model in a dated form's body, too; the specification has none.
        """
        named = terms(to).deployment if version(to) is None else None
        return {"model": named, "dimensions": ask.dimensions, "user": ask.user}

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The deployment's URL, below the resource's: the policy may have written `/openai/v1`."""
        del credential
        base = to.base_url
        if base.endswith(_OPENAI + _V1):
            base = base.removesuffix(_V1)
        base = base.removesuffix(_OPENAI) + _OPENAI
        dated = version(to)
        if dated is None:
            return f"{base}{_V1}/embeddings"
        deployment = quote(terms(to).deployment, safe="")
        return f"{base}/deployments/{deployment}/embeddings?api-version={quote(dated, safe='')}"

    def headers(self, to: document.Provider, *, credential: str | None) -> Mapping[str, str]:
        """An access token as OpenAI's keys are sent, a key in a header of Azure's own."""
        if to.identity is not None or credential is None:
            return provider_api.headers(credential)
        return {**provider_api.headers(None), "api-key": credential}


def terms(to: document.Provider) -> provider_terms.Azure:
    """The policy's terms, without which no document of this type is taken over."""
    assert to.azure is not None  # noqa: S101 - runtime.check
    return to.azure


def version(to: document.Provider) -> str | None:
    """The dated version of the API that is called; None for the v1 form."""
    dated = terms(to).api_version
    return DATED_VERSION if dated is None and to.identity is not None else dated
