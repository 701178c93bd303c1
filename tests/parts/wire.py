"""One provider's translation at work: the request that it writes, and the answers that it reads."""

import json
from collections.abc import Mapping
from typing import Any

from embedding_contract import document
from embedding_sidecar import errors, providers
from embedding_sidecar.translation import provider_api, vector_decoder
from tests.fakes import provider as stand_in

NOW = 1_440_938_160.0
"""2015-08-30T12:36:00Z, of AWS's published examples."""


def request(
    kind: str,
    model: str,
    *items: provider_api.Item,
    credential: str | None = "secret",
    base_url: str | None = None,
    **ask: Any,
) -> provider_api.HttpRequest:
    """What is sent to this type of provider at its vendor's own address."""
    region = stand_in.terms(kind, model).get("region")
    to = document.Provider(
        name="p",
        kind=kind,
        model=model,
        base_url=base_url or document.default_base_url(kind=kind, region=region) or "http://p",
        **stand_in.terms(kind, model),
    )
    asked = provider_api.Ask(model=model, items=items, **ask)
    return providers.PROVIDERS[kind].request(asked, to=to, credential=credential, now=NOW)


def body(kind: str, model: str, *items: provider_api.Item, **ask: Any) -> dict[str, Any]:
    """Its body."""
    found: dict[str, Any] = json.loads(request(kind, model, *items, **ask).body)
    return found


def answer(
    status: int, said: object, headers: Mapping[str, str] | None = None
) -> provider_api.HttpAnswer:
    """An answer of this status, body and headers."""
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    lines = stand_in.lines(headers or {})
    return provider_api.HttpAnswer(status=status, lines=lines, body=raw)


def vectors(
    kind: str,
    model: str,
    said: object,
    *,
    count: int = 1,
    headers: Mapping[str, str] | None = None,
) -> vector_decoder.Vectors:
    """What is read of a 200 with this body, after so many texts were sent."""
    asked = request(kind, model, *("a" for _ in range(count)))
    assert asked.reader is not None
    came = answer(200, said, headers)
    asked.reader.feed(came.body)
    return providers.PROVIDERS[kind].vectors(came._replace(body=b"", reader=asked.reader))


def failure(
    kind: str, status: int, said: object, headers: Mapping[str, str] | None = None
) -> errors.ProviderFailed | errors.Rejected:
    """What a status other than 2xx means."""
    return providers.PROVIDERS[kind].failure(answer(status, said, headers))


def meaning(
    kind: str, status: int, said: object, headers: Mapping[str, str] | None = None
) -> tuple[type, str]:
    """Kind and reason of a failure; of a rejected request its code."""
    found = failure(kind, status, said, headers)
    if isinstance(found, errors.Rejected):
        return type(found), found.code or ""
    return type(found), found.reason
