"""The methods of every upstream of tests besides `send`."""

import asyncio
from collections.abc import Callable

from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api


def carried(
    answer: provider_api.HttpAnswer, request: provider_api.HttpRequest
) -> provider_api.HttpAnswer:
    """The answer as HttpClient gives it: the request's reader has the body of a 2xx."""
    if answer.status >= http_status.LOWEST_REDIRECT or request.reader is None:
        return answer
    request.reader.feed(answer.body)
    return answer._replace(body=b"", reader=request.reader)


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
