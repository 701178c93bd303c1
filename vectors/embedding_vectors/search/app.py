"""The HTTP side of search: one POST, and the pages of every pod of an index."""

import asyncio
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from embedding_contract import guard, names
from embedding_contract.index_document import MAX_SEARCH_BYTES, IndexDocument
from embedding_vectors.search.searcher import Searcher
from embedding_vectors.serving import pages
from embedding_vectors.serving.refusals import JSON, Refusal

BODY_SECONDS: Final = 5.0
MAX_NONCES: Final = 262_144
"""The proofs remembered, each for 300 to 600 s: enough for 400 searches a second without end. They
take about 50 MB where all are used."""


class Current(Protocol):
    """The document and the token in force."""

    def document(self) -> IndexDocument | None:
        """The index document; None where there is none yet."""
        ...

    def token(self) -> str:
        """The policy's API token; empty where there is none."""
        ...


class Application:
    """Answers searches of the index that is in force."""

    def __init__(self, *, current: Current, searcher: Searcher, own_pages: pages.Pages) -> None:
        self._current = current
        self._searcher = searcher
        self._pages = own_pages
        self._guards: dict[str, guard.Guard] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route(names.PATH_SEARCH, self.search, methods=["POST"]),
                *self._pages.routes(),
            ],
            exception_handlers={Refusal: _on_refusal, HTTPException: _on_http},
        )

    async def search(self, request: Request) -> Response:
        """POST a search, with a proof that names the index and covers the body."""
        document, token = self._current.document(), self._current.token()
        if document is None:
            raise Refusal(
                "This pod has no index document yet.",
                status=503,
                code="index_not_loaded",
                retry_after_seconds=1,
            )
        body = await _body(request)
        if not token:
            return pages.unauthorized("No API token is configured, so nobody may ask this.")
        admitted = self._guard(document.uid).admit_proof(
            request.headers.get("authorization", ""),
            token=token,
            method=request.method,
            path=pages.target(request),
            body=body,
        )
        if admitted.refusal:
            response = pages.unauthorized(admitted.refusal)
        else:
            try:
                found = await self._searcher.search(document, body)
                response = Response(found, media_type=JSON)
            except Refusal as refusal:
                response = refusal.response()
        return pages.signed(response, request=request, token=token, nonce=admitted.nonce)

    def _guard(self, uid: str) -> guard.Guard:
        if uid not in self._guards:
            # An index that was created again has another UID: no proof for the old one is valid.
            self._guards = {uid: guard.Guard(pod=uid, asked="index", max_nonces=MAX_NONCES)}
        return self._guards[uid]


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_SEARCH_BYTES:
                    raise Refusal(f"The body is larger than {MAX_SEARCH_BYTES} bytes.", status=413)
    except TimeoutError:
        raise Refusal(f"The body did not arrive within {BODY_SECONDS:.0f} s.", status=408) from None
    except ClientDisconnect:
        raise Refusal("The caller went away.", status=499) from None
    return bytes(body)


async def _on_refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return error.response()


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = {404: "There is nothing of this name here.", 405: f"{request.method} is not allowed."}
    refusal = Refusal(message.get(error.status_code, error.detail), status=error.status_code)
    response = refusal.response()
    response.headers.update(error.headers or {})
    return response
