"""The two ASGI applications: the API on loopback, and administration on the pod's address."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_contract import guard, index_document, names, proof
from embedding_http.flow import pairs
from embedding_sidecar import errors
from embedding_sidecar.api import clearing, management, openapi, request_body, search
from embedding_sidecar.api.embeddings import Embeddings, refusal
from embedding_sidecar.openai_format import browsers, models, openai_json, paths, request_headers
from embedding_sidecar.policy import settings
from embedding_sidecar.policy.current_policy import CurrentPolicy
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.upstream import passthrough

JSON: Final = "application/json"
METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
OWN: Final = MappingProxyType({names.PATH_EMBEDDINGS: "POST", names.PATH_MODELS: "GET, HEAD"})
"""Paths that do not pass through, and their methods."""

Handler = Callable[[Request], Awaitable[Response]]


class Application:
    """Every endpoint, over the runtime that is in force when a request comes."""

    def __init__(
        self,
        *,
        current: CurrentPolicy,
        metrics: Metrics,
        callers: settings.Callers = settings.Callers(),  # noqa: B008 - frozen
    ) -> None:
        self._current = current
        self._metrics = metrics
        self._exposition = management.Exposition(self._render)
        self._guard = guard.Guard(pod=callers.pod_uid)
        self._hosts = browsers.LOOPBACK | callers.allowed_hosts
        self._searches = search.Searches()

    def api(
        self,
        *,
        patience_seconds: float,
        memory_bytes: int,
        tracer: tracing.Tracer | None,
    ) -> Embeddings:
        """The API, which the application in the pod calls."""
        router = Starlette(
            routes=[
                # Reached by other methods only: POST is answered before it comes to the router.
                Route(names.PATH_EMBEDDINGS, self.pass_through, methods=["POST"]),
                Route(names.PATH_MODELS, self._models, methods=["GET"]),
                Route(f"{names.PATH_MODELS}/{{model:path}}", self._model, methods=["GET"]),
                Route(names.PATH_OPENAPI, self._describe, methods=["GET"]),
                *self._management(),
                Route(names.PATH_CACHE, self._guarded(self._clear_cache), methods=["DELETE"]),
                Route(names.PATH_SEARCH, self._search, methods=["POST"]),
                Route("/v1/{path:path}", self.pass_through, methods=METHODS),
            ],
            exception_handlers=_HANDLERS,
        )
        return Embeddings(
            current=self._current,
            metrics=self._metrics,
            otherwise=router,
            patience_seconds=patience_seconds,
            memory_bytes=memory_bytes,
            tracer=tracer,
            hosts=self._hosts,
        )

    def admin(self) -> Starlette:
        """Administration, which kubelet, Prometheus and the operator call."""
        return Starlette(
            routes=[
                Route(names.PATH_STARTED, _alive, methods=["GET"]),
                Route(names.PATH_LIVE, _alive, methods=["GET"]),
                Route(names.PATH_METRICS, self._scrape, methods=["GET"]),
                *self._management(),
            ],
            exception_handlers=_HANDLERS,
            middleware=[Middleware(_WithoutPages)],
        )

    def _management(self) -> list[Route]:
        return [
            Route(names.PATH_HEALTH, self._health, methods=["GET"]),
            Route(names.PATH_QUOTA, self._guarded(self._quota), methods=["GET"]),
            Route(names.PATH_CONFIG, self._guarded(self._config), methods=["GET"]),
            Route(names.PATH_CACHE_STATS, self._guarded(self._cache_stats), methods=["GET"]),
        ]

    async def _models(self, request: Request) -> Response:
        owners = models.owners(self._current.runtime().loaded.document)
        return Response(
            openai_json.render_models(owners), media_type=JSON, headers=_identified(request)
        )

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model"]
        owner = models.owner(self._current.runtime().loaded.document, name)
        body = openai_json.render_model(name, owner)
        return Response(body, media_type=JSON, headers=_identified(request))

    async def _describe(self, _: Request) -> Response:
        runtime = self._current.runtime_or_none()
        policy = None if runtime is None else runtime.loaded.document
        return _json(openapi.document(policy))

    async def pass_through(self, request: Request) -> Response:
        """Any other /v1/*: streamed unchanged to the one URL that the policy names."""
        # Not `url.path`, from which urllib removes tabs and line ends.
        path = request.scope["path"]
        if path in OWN:
            raise HTTPException(405, headers={"allow": OWN[path]})
        if paths.is_near_miss(request.method, path):
            raise paths.not_here(path)
        runtime = self._current.runtime()
        return await passthrough.forward(
            request,
            base_url=runtime.loaded.document.passthrough.base_url,
            upstream=runtime.upstream,
        )

    async def _search(self, request: Request) -> Response:
        head = request_headers.read(request.scope["headers"])
        request_headers.check(head)
        runtime = self._current.runtime()
        body = await request_body.read(request.receive, most=index_document.MAX_SEARCH_BYTES)
        return await self._searches.forward(
            body,
            policy=runtime.loaded.document,
            token=self._current.api_token(),
            upstream=runtime.upstream,
            request_id=request_headers.request_id(head),
        )

    async def _health(self, _: Request) -> Response:
        return _json(management.health(self._current))

    async def _quota(self, _: Request) -> Response:
        return _json(await management.quota(self._current.runtime()))

    async def _config(self, _: Request) -> Response:
        return _json(management.config(self._current))

    async def _cache_stats(self, _: Request) -> Response:
        return _json(management.cache_stats(self._current.runtime()))

    async def _clear_cache(self, request: Request) -> Response:
        runtime = self._current.runtime()
        policy = runtime.loaded.document
        asked = clearing.parse(
            request.url.query, await request_body.read(request.receive), policy=policy
        )
        if asked.items:
            variants = clearing.variants(asked, policy=policy)
            await runtime.cache.clear_items(variants, model=asked.model)
            return _json({"cleared": "items", "items": len(asked.items), "model": asked.model})
        await runtime.cache.generations.clear(asked.model)
        return _json({"cleared": asked.model or "all"})

    async def _scrape(self, _: Request) -> Response:
        return Response(
            await self._exposition.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    def _render(self) -> bytes:
        management.observe(self._current, self._metrics)
        return self._metrics.exposition()

    def _guarded(self, handler: Handler) -> Handler:
        """Admit only callers that hold the API token; sign answers to those that proved it."""

        async def guarded(request: Request) -> Response:
            token = self._current.api_token()
            admitted = self._guard.admit(
                request.headers.get("authorization", ""),
                token=token,
                method=request.method,
                path=_target(request),
            )
            try:
                response = (
                    _unauthorized(admitted.refusal) if admitted.refusal else await handler(request)
                )
            except errors.Refused as error:
                response = _refused(error, _identified(request))
            if admitted.nonce:
                response.headers[proof.ANSWER_HEADER] = proof.sign_answer(
                    token,
                    nonce=admitted.nonce,
                    status=response.status_code,
                    body=b"" if request.method == "HEAD" else bytes(response.body),
                )
            return response

        return guarded


class _WithoutPages:
    """In front of administration: refuses requests sent by a page of another origin.

    The Host is not checked: kubelet and Prometheus call the pod's address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = request_headers.read(scope["headers"])
        try:
            browsers.check(head, hosts=None)
        except errors.Rejected as error:
            await _refused(error, {request_headers.REQUEST_ID: request_headers.request_id(head)})(
                scope, receive, send
            )
            return
        await self._app(scope, receive, send)


async def _alive(_: Request) -> Response:
    """The socket listens and the loop runs; a probe checks nothing else."""
    return Response(b"ok\n", media_type="text/plain")


def _json(body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)


def _refused(error: errors.Refused, headers: Mapping[str, str] | None = None) -> Response:
    reply = refusal(error, headers or {})
    response = Response(reply.body, status_code=reply.status)
    response.raw_headers = pairs(reply.head)
    return response


def _unauthorized(message: str) -> Response:
    error = errors.Rejected(message, status=401, code="invalid_api_key")
    return _refused(error, {"www-authenticate": f"Bearer, {proof.SCHEME}"})


def _target(request: Request) -> str:
    path = bytes(request.scope["raw_path"]).partition(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _identified(request: Request) -> dict[str, str]:
    return {
        request_headers.REQUEST_ID: request_headers.request_id(
            request_headers.read(request.scope["headers"])
        )
    }


async def _on_refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, errors.Refused):
        raise error
    return _refused(error, _identified(request))


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.NOT_FOUND and paths.is_near_miss(
        request.method, request.scope["path"]
    ):
        return _refused(paths.not_here(request.scope["path"]), _identified(request))
    message = {
        404: f"There is no {request.url.path[: openai_json.MAX_NAME]} here.",
        405: f"{request.method} is not allowed on {request.url.path[: openai_json.MAX_NAME]}.",
    }.get(error.status_code, error.detail)
    refused = errors.Rejected(message, status=error.status_code)
    return _refused(refused, {**_identified(request), **(error.headers or {})})


_HANDLERS = {errors.Refused: _on_refused, HTTPException: _on_http}
