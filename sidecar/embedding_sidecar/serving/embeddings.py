"""POST /v1/embeddings, as plain ASGI in front of the router.

There are two ways to an answer, and both say the same. A request that has come whole and whose
vectors are all in memory is answered by `at_once`, as a plain call: no task, no waiting. Every
other is a task like any request, and may wait for Redis, the quota or a provider.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_contract import names
from embedding_sidecar import errors
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.recall import Wanted
from embedding_sidecar.metrics import Metrics
from embedding_sidecar.runtime import Runtime
from embedding_sidecar.serving import bodies, reports
from embedding_sidecar.wire import cache_control, heads, models, wire

_JSON: Final = b"content-type: application/json\r\n"
_ASKED: Final = "embedding_sidecar.asked"
"""Where in a scope `at_once` leaves what it has read: a Head and a wire.Request."""
WRITE: Final = "embedding_sidecar.write"
"""Where in a scope a connection leaves what writes a whole Reply, and says whether it could."""
_OK: Final = 200


class Reply(NamedTuple):
    """A whole answer; `head` is the header lines, each with its end, names in lower case."""

    status: int
    head: bytes
    body: bytes

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines in pairs, as ASGI has them."""
        pairs = (line.partition(b": ") for line in self.head.split(b"\r\n")[:-1])
        return [(name, value) for name, _, value in pairs]


class Embeddings:
    """The endpoint; what is not its own goes on to `otherwise`."""

    def __init__(
        self,
        *,
        current: reports.Current,
        metrics: Metrics,
        otherwise: ASGIApp,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._current = current
        self._metrics = metrics
        self._otherwise = otherwise
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # Taken out, or scope and connection would hold each other.
        write: Callable[[Reply], bool] | None = scope.pop(WRITE, None)
        if not _is_ours(scope):
            await self._otherwise(scope, receive, send)
            return
        reply = await self._reply(scope, receive)
        if write is not None and write(reply):
            return
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers()}
        )
        await send({"type": "http.response.body", "body": reply.body})

    def at_once(self, scope: Scope, body: bytes) -> Reply | None:
        """The answer to a request that has come whole, if it needs nothing but memory.

        None leaves it to `__call__`, and nothing has been counted then. What is wrong with a
        request, too, is for `__call__` to say.
        """
        started = self._clock()
        runtime = self._current.runtime_or_none()
        if runtime is None or not _is_ours(scope) or len(body) > wire.MAX_BODY_BYTES:
            return None
        head = heads.read(scope["headers"])
        # What is asked of the cache in a header is not in the body that would be known again.
        is_plain = head.cache_control is None
        recall = runtime.recall
        try:
            heads.check(head)
            known = recall.known(body) if is_plain else None
            wanted = known or self._wanted(scope, body, head, runtime)
        except errors.Rejected:
            return None
        answer = None if wanted is None else recall.answer(wanted)
        if wanted is None or answer is None:
            return None
        if known is None and is_plain:
            recall.learn(body, wanted)
        seconds = self._clock() - started
        return _answered(
            answer, runtime, base64=wanted.base64, identifier=head.request_id, seconds=seconds
        )

    def _wanted(
        self, scope: Scope, body: bytes, head: heads.Head, runtime: Runtime
    ) -> Wanted | None:
        """What is asked for; None where more is asked of the cache than what it has."""
        asked = wire.parse(body, header=head.cache_control)
        models.check(runtime.loaded.document, asked)
        scope[_ASKED] = head, asked
        if asked.control != cache_control.DEFAULT:
            return None
        return runtime.recall.wanted(asked.ask, base64=asked.base64)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        started = self._clock()
        known: tuple[heads.Head, wire.Request] | None = scope.get(_ASKED)
        head = known[0] if known else heads.read(scope["headers"])
        try:
            asked = known[1] if known else await _asked(head, receive)
            runtime = self._current.runtime()
            models.check(runtime.loaded.document, asked)
            answer = await runtime.service.embed(asked.ask, control=asked.control)
        except errors.Refused as error:
            return self._refused(error.as_value(), head.request_id)
        seconds = self._clock() - started
        return _answered(
            answer, runtime, base64=asked.base64, identifier=head.request_id, seconds=seconds
        )

    def _refused(self, error: errors.Refused, identifier: str) -> Reply:
        if isinstance(error, errors.QuotaExhausted):
            self._metrics.quota_exhausted()
        # The code of a rejection may be a provider's own word, and a label is of a closed list.
        ours = not isinstance(error, errors.Rejected)
        self._metrics.error((ours and error.code) or error.kind)
        return refusal(
            error,
            {
                heads.REQUEST_ID: identifier,
                reports.HEADER_ATTEMPTS: str(error.attempts),
            },
        )


async def _asked(head: heads.Head, receive: Receive) -> wire.Request:
    heads.check(head)
    return wire.parse(await bodies.read(receive), header=head.cache_control)


def _answered(
    answer: Answer, runtime: Runtime, *, base64: bool, identifier: str, seconds: float
) -> Reply:
    body = wire.render(
        vectors=answer.vectors, model=answer.model, tokens=answer.tokens, as_base64=base64
    )
    head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b" % (
        _JSON,
        len(body),
        identifier.encode(),
        reports.head(answer, runtime.quota, seconds=seconds),
    )
    return Reply(_OK, head, body)


def refusal(error: errors.Refused, headers: Mapping[str, str]) -> Reply:
    """A refusal in OpenAI's form, with these headers and what tells an SDK when to come back."""
    body = wire.render_error(error)
    said = {"content-length": str(len(body)), **headers, **reports.refusal_headers(error)}
    return Reply(error.status, _JSON + reports.lines(said), body)


def _is_ours(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path == names.PATH_EMBEDDINGS
