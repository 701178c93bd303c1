"""POST /v1/embeddings, in front of the router.

There are three ways to a response, all with the same content. A complete request whose vectors are
all in memory is answered by `at_once`, a plain call: no task, no waiting. One whose vectors are in
the shared cache is answered by `look_up` when the cache responds, without a task either. `respond`
is the coroutine for every other request: it continues with what was read and found. A large answer
waits for its byte budget (`byte_budget`), and is written piece by piece.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_contract import names
from embedding_http.flow import Reply
from embedding_sidecar import errors, memory_limit
from embedding_sidecar.api import byte_budget, head_cache, request_body, response_headers
from embedding_sidecar.api.streamed_response import WHOLE_BYTES, StreamedResponse, send_all
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.cached_answers import Wanted
from embedding_sidecar.engine.request_state import Found
from embedding_sidecar.openai_format import (
    browsers,
    cache_control,
    models,
    openai_json,
    request_headers,
)
from embedding_sidecar.policy.current_policy import CurrentPolicy
from embedding_sidecar.policy.runtime import Runtime
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.telemetry.metrics import Metrics

_JSON: Final = b"content-type: application/json\r\n"
PATIENCE_SECONDS: Final = 25.0
"""The longest wait for a byte budget; half of the time that a request may take."""
_OK: Final = 200

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A request, as far as it has been read and looked up in the cache.

    `body` and `runtime` are None if they are still to come; `request` is None if the body was
    known, and so has not been parsed. `found` is what memory has while something is `wanted`, which
    is to be looked up in the shared cache; then it is what any layer has.
    """

    started: float
    head: request_headers.Head
    runtime: Runtime | None = None
    body: bytes | None = None
    request: openai_json.Request | None = None
    wanted: Wanted | None = None
    found: Found | None = None

    @property
    def ends_with_caller(self) -> bool:
        """True if nothing more is bought once its caller is gone: it asks for one item."""
        return self.request is not None and len(self.request.ask.items) == 1

    def __repr__(self) -> str:
        """Without its texts."""
        return f"<asked with {len(self.body or b'')} bytes>"


class Embeddings:
    """The endpoint; it hands all other requests to `otherwise`."""

    def __init__(
        self,
        *,
        current: CurrentPolicy,
        metrics: Metrics,
        otherwise: ASGIApp,
        patience_seconds: float = PATIENCE_SECONDS,
        memory_bytes: int = memory_limit.DEFAULT_BYTES,
        hosts: frozenset[str] = browsers.LOOPBACK,
        tracer: tracing.Tracer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._current = current
        self._metrics = metrics
        self._answered_ok = metrics.answered_ok
        self._otherwise = otherwise
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._hosts = hosts
        self._tracer = tracer
        self._sizes = byte_budget.Sizes()
        self._budgets = byte_budget.ByteBudgets(memory_bytes)
        self.known_heads = head_cache.HeadCache()

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, asked: Asked | None = None
    ) -> Reply | None:
        """Answer one request with the reply that is returned; None: it has been sent.

        `asked` is what is known of the request already.
        """
        if asked is None:
            asked = Asked(self._clock(), request_headers.read(scope["headers"]))
            try:
                # It refuses requests that only a page in a browser would send.
                browsers.check(asked.head, hosts=self._hosts)
            except errors.Rejected as error:
                return self._refused(error.as_value(), asked.head)
            if not _is_ours(scope):
                await self._otherwise(scope, receive, send)
                return None
            asked = asked._replace(head=self._traced(asked.head))
        with byte_budget.ByteReservation(patience_seconds=self._patience_seconds) as reservation:
            reply = await self._reply(asked, scope, receive, reservation)
            if isinstance(reply, Reply):
                return reply
            self._answered_ok.value += 1
            await send_all(reply, send, reservation)
            return None

    def head(self, scope: Scope) -> request_headers.Head | None:
        """The values of a request's head, if it may be answered at once."""
        if not _is_ours(scope):
            return None
        head = request_headers.read(scope["headers"])
        try:
            browsers.check(head, hosts=self._hosts)
            request_headers.check(head)
        except errors.Rejected:
            return None
        return head

    def at_once(self, head: request_headers.Head, body: bytes) -> Reply | Asked:
        """The answer to a complete request, if it needs nothing but memory.

        Otherwise the Asked is for `look_up`, if something is Wanted, and then for `respond`, which
        does not read the request again, and says what is wrong with it. Nothing has been counted
        then.
        """
        started = self._clock()
        head = self._traced(head)
        try:
            return self._at_once(head, body, started=started)
        except Exception as failure:  # noqa: BLE001 - its connection would end without an answer
            return self._failed(failure, head)

    def _at_once(self, head: request_headers.Head, body: bytes, *, started: float) -> Reply | Asked:
        runtime = self._current.runtime_or_none()
        if runtime is None or len(body) > byte_budget.SMALL_BODY_BYTES:
            return Asked(started, head, runtime, body)
        cached_answers = runtime.cached_answers
        # Cache directives in a header are not in the body by which a request is known again.
        is_plain = head.cache_control is None
        wanted = cached_answers.known(body) if is_plain else None
        request = None
        if wanted is None:
            try:
                request = openai_json.parse(body, header=head.cache_control)
                if request.voyage_keys:
                    models.check(runtime.loaded.document, request)
                # By identity: one that spells out the default may as well be answered in a task.
                if request.control is not cache_control.DEFAULT or self._is_long(request):
                    return Asked(started, head, runtime, body, request)
                wanted = cached_answers.wanted(request.ask, base64=request.base64)
            except errors.Rejected:
                return Asked(started, head, runtime, body)
        said = cached_answers.answer(wanted)
        if isinstance(said, Found):
            # One that waits for its byte budget looks the rest up then: others may have bought it.
            if (
                request is not None
                and self._sizes.held_bytes(request.ask) > byte_budget.SMALL_BYTES
            ):
                return Asked(started, head, runtime, body, request)
            return Asked(started, head, runtime, body, request, wanted, said)
        if request is not None and is_plain:
            cached_answers.learn(body, wanted)
        return self._answered(said, runtime, head, base64=wanted.base64, started=started)

    def look_up(self, asked: Asked, done: Callable[[Reply | Asked], None]) -> None:
        """Call `done`, now or soon, with the answer if the cache has it, else with what it has."""
        started, head, runtime, body, request, wanted, from_memory = asked
        if runtime is None or wanted is None or from_memory is None:
            done(asked)
            return
        base64 = wanted.base64

        def looked(said: Answer | Found) -> None:
            if not isinstance(said, Answer):
                done(Asked(started, head, runtime, body, request, None, said))
                return
            try:
                reply = self._answered(said, runtime, head, base64=base64, started=started)
            except Exception as failure:  # noqa: BLE001 - nothing else would end the waiting
                reply = self._failed(failure, head)
            done(reply)

        runtime.cached_answers.look_up(wanted, from_memory, looked)

    def caller_left(self, asked: Asked) -> None:
        """The caller has left before its answer was begun."""
        _end_span(asked.head)

    def _failed(self, failure: Exception, head: request_headers.Head) -> Reply:
        _log.error("a request failed", exc_info=failure)
        error = errors.Refused("The sidecar failed; its log says how.", code="internal_error")
        return self._refused(error, head)

    async def _reply(
        self, asked: Asked, scope: Scope, receive: Receive, reservation: byte_budget.ByteReservation
    ) -> Reply | StreamedResponse:
        head, request = asked.head, asked.request
        try:
            if request is None:
                request = await self._read(asked, receive, reservation)
            runtime = asked.runtime or self._current.runtime()
            models.check(runtime.loaded.document, request)
            found: Answer | Found | None = asked.found
            # One that was looked up already is small.
            if found is None and self._sizes.held_bytes(request.ask) > byte_budget.SMALL_BYTES:
                self._budgets.fit(runtime.loaded.document.cache.memory_max_bytes)
                size = functools.partial(self._sizes.held_bytes, request.ask)
                await request_body.while_there(
                    receive, reservation.take(self._budgets.vectors, size)
                )
                if request.control == cache_control.DEFAULT:
                    found = await _looked_up(request, runtime)
            answer = (
                found
                if isinstance(found, Answer)
                else await runtime.service.embed(
                    request.ask,
                    control=request.control,
                    found=found,
                    waited_seconds=reservation.waited_seconds,
                    span=head.span,
                    background=head.is_background,
                )
            )
            self._sizes.learn(request.ask, answer.vectors[0])
            # HTTP/1.0 knows no chunks.
            if not self._is_long(request) or scope.get("http_version") == "1.0":
                return self._answered(
                    answer, runtime, head, base64=request.base64, started=asked.started
                )
            lines = _JSON + self._head(answer, runtime, head, started=asked.started)
        except errors.Refused as error:
            return self._refused(error.as_value(), head)
        except asyncio.CancelledError:
            _end_span(head)
            raise
        except Exception as failure:  # noqa: BLE001 - the caller gets an error, the log its cause
            return self._failed(failure, head)
        return StreamedResponse(
            lines,
            openai_json.chunks(
                vectors=answer.vectors,
                model=answer.model,
                tokens=answer.tokens,
                as_base64=request.base64,
            ),
        )

    async def _read(
        self, asked: Asked, receive: Receive, reservation: byte_budget.ByteReservation
    ) -> openai_json.Request:
        head, body = asked.head, asked.body
        request_headers.check(head)
        size = _length(head) if body is None else len(body)
        if size > byte_budget.SMALL_BODY_BYTES:
            await reservation.take(self._budgets.bodies, lambda: size)
        if body is None:
            body = await request_body.read(receive)
        return openai_json.parse(body, header=head.cache_control)

    def _traced(self, head: request_headers.Head) -> request_headers.Head:
        """The head with the span of its request, which ends with the answer."""
        if self._tracer is None:
            return head
        span = self._tracer.request(traceparent=head.traceparent, tracestate=head.tracestate)
        return head._replace(span=span)

    def _is_long(self, request: openai_json.Request) -> bool:
        count = len(request.ask.items)
        if count == 1:
            return False
        size = self._sizes.vector_bytes(request.ask)
        return count * openai_json.row_bytes(size, as_base64=request.base64) > WHOLE_BYTES

    def _answered(
        self,
        answer: Answer,
        runtime: Runtime,
        head: request_headers.Head,
        *,
        base64: bool,
        started: float,
    ) -> Reply:
        lines = self._head(answer, runtime, head, started=started)
        body = openai_json.render(
            vectors=answer.vectors, model=answer.model, tokens=answer.tokens, as_base64=base64
        )
        self._answered_ok.value += 1
        return Reply(_OK, b"%bcontent-length: %d\r\n%b" % (_JSON, len(body), lines), body)

    def _head(
        self, answer: Answer, runtime: Runtime, head: request_headers.Head, *, started: float
    ) -> bytes:
        if head.span is not None:
            head.span.answered(
                provider=answer.kind.lower(),
                model=answer.model,
                dimensions=len(answer.vectors[0]) // byte_budget.BYTES_PER_NUMBER,
                tokens=answer.tokens,
                hits=answer.hits,
                items=answer.items,
            )
        return b"x-request-id: %b\r\n%b" % (
            request_headers.request_id(head).encode(),
            response_headers.head(
                answer,
                runtime.quota,
                seconds=self._clock() - started,
                background=head.is_background,
            ),
        )

    def _refused(self, error: errors.Refused, head: request_headers.Head) -> Reply:
        if head.span is not None:
            head.span.refused(error)
        # A quota whose rest is reserved for applications is not exhausted.
        if isinstance(error, errors.QuotaExhausted) and not isinstance(error, errors.QuotaReserved):
            self._metrics.quota_exhausted()
        # The code of a rejection may be a provider's own, and a label has a closed set of values.
        ours = not isinstance(error, errors.Rejected)
        self._metrics.error((ours and error.code) or error.kind)
        self._metrics.answered(error.status)
        return refusal(
            error,
            {
                request_headers.REQUEST_ID: request_headers.request_id(head),
                response_headers.HEADER_ATTEMPTS: str(error.attempts),
            },
        )


async def _looked_up(request: openai_json.Request, runtime: Runtime) -> Answer | Found:
    """The result of Embeddings.look_up, for a task."""
    wanted = runtime.cached_answers.wanted(request.ask, base64=request.base64)
    said = runtime.cached_answers.answer(wanted)
    if isinstance(said, Answer):
        return said
    told: asyncio.Future[Answer | Found] = asyncio.get_running_loop().create_future()

    def done(said: Answer | Found) -> None:
        # A request that was cut meanwhile has cancelled it.
        if not told.done():
            told.set_result(said)

    runtime.cached_answers.look_up(wanted, said, done)
    return await told


def _end_span(head: request_headers.Head) -> None:
    """End the span of a request whose caller left."""
    if head.span is not None:
        head.span.refused(errors.Refused("The caller left.", code="client_disconnected"))


def _length(head: request_headers.Head) -> int:
    """The length of a body; if the head does not give it, the most that one may have."""
    said = head.content_length or ""
    return int(said) if said.isdecimal() else openai_json.MAX_BODY_BYTES


def refusal(error: errors.Refused, headers: Mapping[str, str]) -> Reply:
    """A refusal in OpenAI's form, with these headers and those that tell an SDK when to retry."""
    body = openai_json.render_error(error)
    said = {"content-length": str(len(body)), **headers, **response_headers.refusal_headers(error)}
    return Reply(error.status, _JSON + response_headers.lines(said), body)


def _is_ours(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path == names.PATH_EMBEDDINGS
