"""The pages of every pod of an index: probes, metrics, and the signed report for the operator."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedding_contract import guard, index_report, names, proof
from embedding_vectors.metrics import Metrics
from embedding_vectors.serving.refusals import JSON, Refusal

EVERY_SECONDS: Final = 1.0
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """The pages and their routes.

    `report` makes the report, `token` reads the policy's API token (empty where there is none),
    `pod_uid` is the pod that a proof for the report names.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        report: Callable[[], Awaitable[index_report.IndexReport]],
        token: Callable[[], str],
        pod_uid: str,
    ) -> None:
        self._metrics = metrics
        self._report = report
        self._token = token
        self._guard = guard.Guard(pod=pod_uid, asked="pod")
        self._rendered, self._rendered_at = b"", float("-inf")

    def app(self) -> Starlette:
        """An application of these pages alone."""
        return Starlette(routes=self.routes())

    def routes(self) -> list[Route]:
        """The routes of all pages."""
        return [
            Route(names.PATH_STARTED, _alive, methods=["GET"]),
            Route(names.PATH_LIVE, _alive, methods=["GET"]),
            Route(names.PATH_METRICS, self.scrape, methods=["GET"]),
            Route(names.PATH_INDEX, self.index, methods=["GET"]),
        ]

    async def scrape(self, _: Request) -> Response:
        """GET /metrics in the Prometheus text format: known figures, without a query.

        It needs no token, so a second scrape within the second gets the same text.
        """
        now = time.monotonic()
        if now >= self._rendered_at + EVERY_SECONDS:
            self._rendered, self._rendered_at = self._metrics.exposition(), now
        return Response(self._rendered, media_type=_METRICS)

    async def index(self, request: Request) -> Response:
        """GET the report, to holders of the API token."""
        token = self._token()
        admitted = self._guard.admit(
            request.headers.get("authorization", ""),
            token=token,
            method=request.method,
            path=target(request),
        )
        if admitted.refusal:
            response = unauthorized(admitted.refusal)
        else:
            response = Response(index_report.dump(await self._report()), media_type=JSON)
        return signed(response, request=request, token=token, nonce=admitted.nonce)


def unauthorized(message: str) -> Response:
    """The refusal of a caller that has not shown that it holds the API token."""
    response = Refusal(message, status=401, code="invalid_api_key").response()
    response.headers["www-authenticate"] = f"Bearer, {proof.SCHEME}"
    return response


def signed(response: Response, *, request: Request, token: str, nonce: str) -> Response:
    """The answer with its proof, where the request came with one."""
    if nonce:
        response.headers[proof.ANSWER_HEADER] = proof.sign_answer(
            token,
            nonce=nonce,
            status=response.status_code,
            body=b"" if request.method == "HEAD" else bytes(response.body),
        )
    return response


def target(request: Request) -> str:
    """The request target as it was sent."""
    path = bytes(request.scope["raw_path"]).partition(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


async def _alive(_: Request) -> Response:
    """The socket listens and the event loop runs; a probe checks nothing else.

    Readiness checks no more either: a pod out of its Service because its database is away could
    not even refuse searches.
    """
    return Response(b"ok\n", media_type="text/plain")
