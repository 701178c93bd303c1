"""Upstreams of tests: what each has besides `send`, and one answer in place of all calls."""

import asyncio
from collections.abc import Callable

import orjson

from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api
from embedding_sidecar.upstream import http_client


def carried(
    answer: provider_api.HttpAnswer, request: provider_api.HttpRequest
) -> provider_api.HttpAnswer:
    """The answer as HttpClient gives it: the request's reader has the body of a 2xx."""
    if answer.status >= http_status.LOWEST_REDIRECT or request.reader is None:
        return answer
    request.reader.feed(answer.body)
    return answer._replace(body=b"", reader=request.reader)


def answering(monkeypatch, *, tokens: int) -> list[str]:
    """The addresses that HttpClient calls from now on; each answers a vector of so many tokens."""
    urls: list[str] = []
    body = orjson.dumps(
        {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"total_tokens": tokens}}
    )

    def start(_, request, *, within_seconds, done):
        urls.append(request.url)
        said = provider_api.HttpAnswer(status=200, lines=(), body=body)
        return asyncio.get_running_loop().call_soon(done, carried(said, request)).cancel

    monkeypatch.setattr(http_client.HttpClient, "start", start)
    return urls


class Starts:
    """Starts the calls of an upstream that has `send`; where not `is_ready`, a turn later."""

    def is_ready(self) -> bool:
        """Whether the next call goes out at once, as over an open connection."""
        return True

    async def send(
        self, request: provider_api.HttpRequest, *, within_seconds: float
    ) -> provider_api.HttpAnswer:
        """The subclass's."""
        raise NotImplementedError

    def start(
        self,
        request: provider_api.HttpRequest,
        *,
        within_seconds: float,
        done: Callable[[provider_api.HttpAnswer | Exception], None],
    ) -> Callable[[], object]:
        """As provider_api.Upstream."""
        is_ready = self.is_ready()

        async def run() -> None:
            if not is_ready:
                await asyncio.sleep(0)
            said: provider_api.HttpAnswer | errors.Unreachable
            try:
                said = carried(await self.send(request, within_seconds=within_seconds), request)
            except errors.Unreachable as failure:
                said = failure
            done(said)

        return asyncio.create_task(run()).cancel
