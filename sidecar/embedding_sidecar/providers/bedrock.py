"""Amazon Bedrock's InvokeModel with the embedding models of Amazon (Titan) and Cohere.

Sources: botocore 1.44.8, data/bedrock-runtime/2023-09-30/service-2.json (URL, errors, bytes of a
body); docs.aws.amazon.com/bedrock, model-parameters-titan-embed-text, -embed-v3 and -embed-v4
(bodies, answers, items). Cohere's models state usage in a header only, which AWS does not document:
github.com/langchain4j/langchain4j/issues/5057. Requests are signed by botocore's signer (Signature
Version 4), or carry a Bedrock API key.
"""

import importlib
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from embedding_contract import document, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.translation import error_words, http_status, provider_api, wire_format
from embedding_sidecar.translation.vector_decoder import MAX_TOKENS, Form, Vectors, count

MAX_BODY_BYTES: Final = 24_000_000
"""Below the 25,000,000 of a whole body."""
OF_TITAN: Final = provider_api.Limits(items=1, body_bytes=MAX_BODY_BYTES)
OF_COHERE: Final = provider_api.Limits(items=96, body_bytes=MAX_BODY_BYTES, are_all=False)
USAGE: Final = "x-amzn-bedrock-input-token-count"
_TITAN: Final = provider_terms.TITAN
_COHERE_3: Final = ("cohere.embed-english-v3", "cohere.embed-multilingual-v3")
_SERVICE: Final = "bedrock"
"""The name in signatures; the host has another one."""
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SIGNED: Final = ("content-type", "x-amz-")
_TYPE: Final = "x-amzn-errortype"
_CANONICAL: Final = "The Canonical String"
"""From here on a message about a signature repeats the headers that were signed."""
_QUOTA: Final = "servicequotaexceededexception"
_NOT_READY: Final = "modelnotreadyexception"
_OF_THE_MODEL: Final = ("on-demand throughput", "provided model identifier is invalid")
"""Words of a ValidationException about the policy's model, which has no type of its own."""


def makes_vectors(model: str) -> bool:
    """True for the name, profile or ARN of a model whose bodies are known."""
    return any(it in model for it in provider_terms.BEDROCK_MODELS)


def load() -> tuple[Any, Any, Any]:
    """Signer, credentials and request of botocore, which no other policy needs.

    The import takes 5 MiB and 0.03 s beside what the sidecar has imported already, and more where
    nothing is compiled (tests/integration/test_vendors.py prints it).
    """
    names = {"auth": "SigV4Auth", "credentials": "Credentials", "awsrequest": "AWSRequest"}
    auth, credentials, request = (
        getattr(importlib.import_module(f"botocore.{module}"), name)
        for module, name in names.items()
    )
    return auth, credentials, request


def _entries(answer: Mapping[str, Any]) -> list[Any] | None:
    if "embedding" in answer:
        return [answer]
    found = answer.get("embeddings")
    if isinstance(found, dict):
        found = found.get("float")
    return [{"embedding": it} for it in found] if isinstance(found, list) else None


def _tokens(answer: Mapping[str, Any]) -> int | None:
    return count(answer, "inputTextTokenCount")


class Bedrock(wire_format.Translation):
    """The translation; the model is in the URL, and its name says what body it takes.

    Titan takes one text a call, and refuses too long a one whatever `truncation` says.
    """

    vendor = "Bedrock"
    form = Form(entries=_entries, tokens=_tokens)

    def limits(self, model: str) -> provider_api.Limits:
        """By the model's vendor."""
        return OF_TITAN if _TITAN in model else OF_COHERE

    def fields(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Those of the model; AWS refuses a size that it cannot make."""
        if _TITAN in to.model:
            return {"dimensions": wire_format.size(ask, to)}
        is_3 = any(it in to.model for it in _COHERE_3)
        cut = "END" if is_3 else "RIGHT"
        return {
            "input_type": "search_query" if ask.input_type == "query" else "search_document",
            "truncate": cut if ask.truncation else "NONE",
            "embedding_types": ["float"],
            "output_dimension": wire_format.size(ask, to),
        }

    def body(self, ask: provider_api.Ask, to: document.Provider) -> dict[str, Any]:
        """Floats: neither has another form that holds a vector's own bits."""
        items = {"inputText": ask.items[0]} if _TITAN in to.model else {"texts": ask.items}
        return {**items, **self.fields(ask, to), **wire_format.passed_on(ask)}

    def url(self, to: document.Provider, *, credential: str | None) -> str:
        """The model's own; colons and slashes of its name are encoded."""
        del credential
        return f"{to.base_url}/model/{quote(to.model, safe='')}/invoke"

    def headers(self, to: document.Provider, *, credential: str | None) -> Mapping[str, str]:
        """A Bedrock API key as bearer; AWS keys, which have a colon, sign the request instead."""
        del to
        return provider_api.headers(None if credential and ":" in credential else credential)

    def request(
        self, ask: provider_api.Ask, *, to: document.Provider, credential: str | None, now: float
    ) -> provider_api.HttpRequest:
        """The request, signed where the credential is `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`."""
        made = super().request(ask, to=to, credential=credential, now=now)
        if credential is None or ":" not in credential:
            return made
        return signed(made, region=to.region or "", credential=credential, now=now)

    def vectors(self, answer: provider_api.HttpAnswer) -> Vectors:
        """The vectors, and the tokens of the body or else of the header."""
        found = super().vectors(answer)
        if found.tokens is not None:
            return found
        said = answer.headers.get(USAGE, "")
        # int() of a long text takes long.
        is_count = said.isascii() and said.isdigit() and len(said) <= len(str(MAX_TOKENS))
        return found._replace(tokens=int(said) if is_count else None)

    def failure(self, answer: provider_api.HttpAnswer) -> errors.ProviderFailed | errors.Rejected:
        """By AWS's type, which stands in a header, and by status where that says nothing."""
        kind = _type(answer)
        words = error_words.said(answer.body).partition(_CANONICAL)[0].strip()
        found: errors.ProviderFailed
        if kind == _QUOTA:
            found = errors.RateLimited("rate_limited")
        elif kind == _NOT_READY:
            found = errors.Unreachable("server_error", billed=False)
        elif answer.status == HTTPStatus.BAD_REQUEST and any(it in words for it in _OF_THE_MODEL):
            found = errors.ConfigurationError("not_found")
        else:
            return _in_words(http_status.failure(answer, typed={kind}), words)
        return _in_words(found, words)


def _in_words(
    found: errors.ProviderFailed | errors.Rejected, words: str
) -> errors.ProviderFailed | errors.Rejected:
    if isinstance(found, errors.ProviderFailed):
        found.words = words
    return found


def _type(answer: provider_api.HttpAnswer) -> str:
    """The error's type in lower case: `ValidationException:http://..`, or `aws.bedrock#Type`."""
    raw = error_words.error_of(answer.body)
    said = next(
        (it for it in (answer.headers.get(_TYPE), raw.get("__type"), raw.get("code")) if it), ""
    )
    return str(said).partition(":")[0].rpartition("#")[2].lower()


def signed(
    request: provider_api.HttpRequest,
    *,
    region: str,
    credential: str,
    now: float,
    service: str = _SERVICE,
) -> provider_api.HttpRequest:
    """The request with the headers of Signature Version 4; `now` is Unix time in seconds.

    The signer's own `add_auth` is not called: it reads another clock, and writes a session token
    into a log of the level DEBUG.
    """
    access_key, _, rest = credential.partition(":")
    secret, _, token = rest.partition(":")
    signature, credentials, aws_request = load()
    signer = signature(credentials(access_key, secret, token or None), service, region)
    stamp = time.strftime(_STAMP, time.gmtime(now))
    headers = {**request.headers, "x-amz-date": stamp}
    if token:
        headers["x-amz-security-token"] = token
    # A proxy may change the others, such as accept-encoding.
    to_sign = {name: it for name, it in headers.items() if name.lower().startswith(_SIGNED)}
    of_aws = aws_request(method="POST", url=request.url, data=request.body, headers=to_sign)
    of_aws.context["timestamp"] = stamp
    said = signer.string_to_sign(of_aws, signer.canonical_request(of_aws))
    names = signer.signed_headers(signer.headers_to_sign(of_aws))
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={signer.scope(of_aws)}, SignedHeaders={names}, "
        f"Signature={signer.signature(said, of_aws)}"
    )
    return request._replace(headers=headers)
