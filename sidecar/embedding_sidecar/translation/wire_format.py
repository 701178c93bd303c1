"""A provider's wire format: OpenAI's, which most vendors share, but for what a vendor overrides."""

import abc
from collections.abc import Collection
from typing import Any, ClassVar

import orjson

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api, vector_decoder


class Translation(abc.ABC):
    """One vendor's wire format, without IO."""

    vendor: ClassVar[str]
    """The resource's word for it."""
    takes_tokens: ClassVar[bool] = False
    """True if an item may be a token array."""

    @abc.abstractmethod
    def limits(self, model: str) -> provider_api.Limits:
        """The limits of one request; larger ones are split."""

    @abc.abstractmethod
    def fields(self, ask: provider_api.Ask, *, base_url: str) -> dict[str, Any]:
        """The fields beside model, input and encoding_format; one that is None is left out."""

    def obstacle(self, items: Collection[provider_api.Item]) -> errors.UnsupportedInput | None:
        """The reason why this vendor cannot take these items at all; None where it can."""
        if self.takes_tokens or not any(isinstance(item, tuple) for item in items):
            return None
        return errors.UnsupportedInput(
            "takes_no_tokens",
            obstacle=f"{self.vendor} takes texts, not token arrays; send texts (in LangChain, by "
            "check_embedding_ctx_length=False).",
        )

    def request(
        self, ask: provider_api.Ask, *, base_url: str, api_key: str | None
    ) -> provider_api.HttpRequest:
        """The request to send; its reader takes a 2xx.

        It asks for base64, so that vectors come as the model's own bits. Some servers ignore that
        and answer in floats.
        """
        body = {
            "model": ask.model,
            "input": ask.items,
            "encoding_format": None if ask.plain else "base64",
            **self.fields(ask, base_url=base_url),
            **{name: orjson.Fragment(value) for name, value in ask.extra},
        }
        called = document.called_url(kind=self.vendor, base_url=base_url, api_key=api_key)
        return provider_api.HttpRequest(
            url=f"{called}/embeddings",
            body=orjson.dumps({name: it for name, it in body.items() if it is not None}),
            headers=provider_api.headers(api_key),
            reader=vector_decoder.Reader(count=len(ask.items), dimensions=ask.dimensions),
        )

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """The error of a status other than 2xx, by status and typed fields only."""
        return http_status.failure(answer)
