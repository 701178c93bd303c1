"""Forwards all other requests to `/v1/*`: streamed both ways, unchanged, to one fixed URL.

`OPENAI_BASE_URL` gets all of an SDK's traffic, chat included. The caller's own Authorization is
forwarded, a key of the policy never is; cache and quota are not used.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from embedding_contract import names
from embedding_sidecar import errors
from embedding_sidecar.upstream.http_client import Headers, HttpClient

# RFC 9110, section 7.6.1, and headers of one connection only; `expect` is answered here when the
# body is first read.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


async def forward(request: Request, *, base_url: str | None, upstream: HttpClient) -> Response:
    """The answer of the pass-through's URL.

    Raises:
        errors.Rejected: pass-through is off, the path leads elsewhere, or the key is our
            placeholder.
        errors.Unavailable: the URL cannot be reached.
    """
    if base_url is None:
        raise errors.Rejected(
            "This policy serves only /v1/embeddings and /v1/models: pass-through is off.",
            status=404,
            code="passthrough_disabled",
        )
    _refuse_placeholder(request.headers)
    try:
        answer = await upstream.stream(
            method=request.method,
            url=_target(request, base_url),
            headers=end_to_end(request.headers.items()),
            body=_body(request),
        )
    except errors.Unreachable as error:
        raise errors.Unavailable(
            f"{base_url} cannot be reached ({error.reason}).",
            code="passthrough_unreachable",
            status=502,
        ) from error
    response = StreamingResponse(answer.chunks, status_code=answer.status)
    response.raw_headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in end_to_end(answer.headers)
    ]
    return response


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that do not concern one connection only."""
    found = list(headers)
    named = {
        token.strip().lower()
        for name, value in found
        if name.lower() == "connection"
        for token in value.split(",")
    }
    return [
        (name, value)
        for name, value in found
        if name.lower() not in _HOP_BY_HOP and name.lower() not in named
    ]


def _refuse_placeholder(headers: Mapping[str, str]) -> None:
    _, _, key = headers.get("authorization", "").partition(" ")
    if key.strip() == names.PLACEHOLDER_KEY:
        raise errors.Rejected(
            f"This call is passed through with the application's own key, which is the sidecar's "
            f"placeholder. Set {names.ENV_API_KEY} in the application's container to a key of the "
            "provider.",
            status=401,
            code="invalid_api_key",
        )


def _target(request: Request, base_url: str) -> str:
    # The path as it came, still encoded. The base URL ends in /v1 as the SDK's does; where it is a
    # host alone, anything but a slash after it would be read as a part of the host.
    raw = bytes(request.scope["raw_path"]).partition(b"?")[0].decode("latin-1")
    segments = request.scope["path"].replace("\\", "/").split("/")
    if not raw.startswith("/v1/") or ".." in segments or "." in segments:
        raise errors.Rejected(
            "The path must begin with /v1/, unencoded, and have no . or .. segments."
        )
    path = raw.removeprefix("/v1")
    query = request.url.query
    return f"{base_url}{path}" + (f"?{query}" if query else "")


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise errors.Unreachable("the caller went away", billed=False) from None
