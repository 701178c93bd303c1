"""A provider's wire format: OpenAI's, which most vendors share, but for what a vendor overrides."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import orjson

from embedding_contract import document, spaces
from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api, vector_decoder


def passed_on(ask: provider_api.Ask) -> dict[str, Any]:
    """The fields that the policy passes on."""
    return {name: orjson.Fragment(value) for name, value in ask.extra}


def size(ask: provider_api.Ask, to: document.Provider) -> int | None:
    """The size to ask for; None where it is the model's own, as some models take no such field."""
    default = spaces.default_dimensions(kind=to.kind, model=to.model)
    return None if ask.dimensions == default else ask.dimensions


class Translation(abc.ABC):
    """One vendor's wire format, both ways, without IO.

    `credential` is what the provider's requests are authorized by: an API key, an access token, or
    what else its file holds; None where there is none.
    """

    vendor: ClassVar[str]
    """The resource's word for it."""
    takes_tokens: ClassVar[bool] = False
    """True if an item may be a token array."""
    form: ClassVar[vector_decoder.Form] = vector_decoder.OPENAI
    """The places in a 2xx."""

    @abc.abstractmethod
    def limits(self, model: str) -> provider_api.Limits:
        """The limits of one request; larger ones are split."""

    @abc.abstractmethod
    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """The fields beside model, input and encoding_format; one that is None is left out."""

    def obstacle(self, items: Iterable[provider_api.Item]) -> errors.UnsupportedInput | None:
        """The reason why this vendor cannot take these items at all; None where it can."""
        if self.takes_tokens or not any(isinstance(item, tuple) for item in items):
            return None
        return errors.UnsupportedInput(
            "takes_no_tokens",
            obstacle=f"{self.vendor} takes texts, not token arrays; send texts (in LangChain, by "
            "check_embedding_ctx_length=False).",
        )

    def body(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """The body of a request, with the fields that the policy passes on; None is left out.

        It asks for base64, so that vectors come as the model's own bits. Some servers ignore that
        and answer in floats.
        """
        found = {
            "model": ask.model,
            "input": ask.items,
            "encoding_format": None if ask.plain else "base64",
            **self.fields(ask, to),
        }
        return found | passed_on(ask) if ask.extra else found

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The URL that is called."""
        del credential
        return f"{to.base_url}/embeddings"

    def headers(self, to: document.Provider, *, credential: str | None) -> Mapping[str, str]:
        """The headers of a request, the credential's among them."""
        del to
        return provider_api.headers(credential)

    def request(
        self, ask: provider_api.Ask, *, to: document.Provider, credential: str | None, now: float
    ) -> provider_api.HttpRequest:
        """The request to send; its reader takes a 2xx.

        `now` is Unix time in seconds, for a vendor whose requests are signed.
        """
        del now
        body = self.body(ask, to)
        if None in body.values():
            body = {name: it for name, it in body.items() if it is not None}
        written = orjson.dumps(body)
        return provider_api.HttpRequest(
            url=self.url(to, credential=credential),
            body=written,
            headers=self.headers(to, credential=credential),
            reader=vector_decoder.Reader(
                count=len(ask.items),
                dimensions=ask.dimensions,
                form=self.form,
                echo_bytes=len(written),
            ),
        )

    def vectors(self, answer: provider_api.HttpAnswer) -> vector_decoder.Vectors:
        """The vectors of a 2xx.

        Raises:
            errors.Unusable: there are none, or too few, or one is no vector.
        """
        assert answer.reader is not None  # noqa: S101 - each 2xx has one
        return answer.reader.vectors()

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """The error of a status other than 2xx, by status and typed fields only."""
        return http_status.failure(answer)
