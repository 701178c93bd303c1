"""POST /v1/embeddings, as plain ASGI in front of the router.

There are three ways to an answer, and all say the same. A request that has come whole and whose
vectors are all in memory is answered by `at_once`, as a plain call: no task, no waiting. One whose
vectors the shared cache has is answered when that has told them to `look_up`: no task of the
request's own either. Every other is a task like any request. So is one whose answer is large: it
waits for room for what it will hold (`room`), and is written piece by piece.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_contract import names
from embedding_sidecar import errors, memory, turns
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.recall import Recalled, Wanted
from embedding_sidecar.engine.work import Found
from embedding_sidecar.metrics import Metrics
from embedding_sidecar.runtime import Runtime
from embedding_sidecar.serving import bodies, known_heads, reports, room
from embedding_sidecar.serving.pieces import WHOLE_BYTES, Pieces, pairs, send_all
from embedding_sidecar.wire import browsers, cache_control, heads, models, wire

_JSON: Final = b"content-type: application/json\r\n"
ASKED: Final = "embedding_sidecar.asked"
"""Where in a scope a connection leaves an Asked, or a Reply that it could not write at once."""
WRITE: Final = "embedding_sidecar.write"
"""Where in a scope a connection leaves what writes a whole Reply, and says whether it could."""
PATIENCE_SECONDS: Final = 25.0
"""The longest wait for room; half of what a request may take."""
_OK: Final = 200

_log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """A whole answer; `head` is the header lines, each with its end, names in lower case."""

    status: int
    head: bytes
    body: bytes

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines in pairs, as ASGI has them."""
        return pairs(self.head)


class Asked(NamedTuple):
    """A request as far as it has come under one runtime: read, and with what the cache has said.

    `recalled` is what memory has, `found` what any layer has.

    `request` is None where the body was known, and so has not been read; `wanted` is None where
    more is asked of the cache than what it has, or only later.
    """

    started: float
    head: heads.Head
    runtime: Runtime
    request: wire.Request | None
    wanted: Wanted | None
    recalled: Recalled | None = None
    found: Found | None = None

    def __repr__(self) -> str:
        """Without what was asked."""
        return f"<asked, {'not ' * (self.found is None)}looked up>"


class Embeddings:
    """The endpoint; what is not its own goes on to `otherwise`."""

    def __init__(
        self,
        *,
        current: reports.Current,
        metrics: Metrics,
        otherwise: ASGIApp,
        patience_seconds: float = PATIENCE_SECONDS,
        memory_bytes: int = memory.DEFAULT_BYTES,
        hosts: frozenset[str] = browsers.LOOPBACK,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._current = current
        self._metrics = metrics
        self._answered_ok = metrics.answered_ok
        self._otherwise = otherwise
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._hosts = hosts
        self._sizes = room.Sizes()
        self._rooms = room.Rooms(memory_bytes)
        self.known_heads = known_heads.KnownHeads()
        self.turn = turns.Turn()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # Taken out, or scope and connection would hold each other.
        write: Callable[[Reply], bool] | None = scope.pop(WRITE, None)
        # What was asked at once has been looked at then.
        if ASKED not in scope and (refused := self._refused_page(scope)):
            await _send_reply(refused, send)
            return
        if not _is_ours(scope):
            await self._otherwise(scope, receive, send)
            return
        with room.Stay(patience_seconds=self._patience_seconds) as stay:
            reply = await self._reply(scope, receive, stay)
            if isinstance(reply, Pieces):
                self._answered_ok.value += 1
                await send_all(reply, send, stay)
                return
        if write is not None and write(reply):
            return
        await _send_reply(reply, send)

    def head(self, scope: Scope) -> heads.Head | None:
        """What the head of a request says, if it may be answered at once."""
        if not _is_ours(scope):
            return None
        head = heads.read(scope["headers"])
        try:
            browsers.check(head, hosts=self._hosts)
            heads.check(head)
        except errors.Rejected:
            return None
        return head

    def _refused_page(self, scope: Scope) -> Reply | None:
        """The refusal of a request that only a page in a browser would send."""
        head = heads.read(scope["headers"])
        try:
            browsers.check(head, hosts=self._hosts)
        except errors.Rejected as error:
            return self._refused(error.as_value(), head)
        return None

    def at_once(self, head: heads.Head, body: bytes) -> Reply | Asked | None:
        """The answer to a request that has come whole, if it needs nothing but memory.

        Else it is for `look_up`, if something is Wanted, and then for `__call__`, which need not
        read again what has been Asked; what is wrong with a request, too, is for `__call__` to say.
        Nothing has been counted then.
        """
        started = self._clock()
        runtime = self._current.runtime_or_none()
        if runtime is None or len(body) > room.SMALL_BODY_BYTES:
            return None
        recall = runtime.recall
        # What is asked of the cache in a header is not in the body that would be known again.
        is_plain = head.cache_control is None
        wanted = recall.known(body) if is_plain else None
        request = None
        if wanted is None:
            try:
                request = wire.parse(body, header=head.cache_control)
                if request.voyage_keys:
                    models.check(runtime.loaded.document, request)
                # By identity: one that says the same in words is as right in a task.
                if request.control is not cache_control.DEFAULT or self._is_long(request):
                    return Asked(started, head, runtime, request, wanted)
                wanted = recall.wanted(request.ask, base64=request.base64)
            except errors.Rejected:
                return None
        said = recall.answer(wanted)
        if isinstance(said, Recalled):
            # Who waits for room looks the rest up after it: others may have bought it by then.
            waits = request is not None and self._sizes.held_bytes(request.ask) > room.SMALL_BYTES
            return Asked(started, head, runtime, request, None if waits else wanted, said)
        if request is not None and is_plain:
            recall.learn(body, wanted)
        return self._answered(said, runtime, head, base64=wanted.base64, started=started)

    def look_up(self, asked: Asked, done: Callable[[Reply | Asked], None]) -> None:
        """Tell `done`, now or soon, the answer, if the cache has it; else what it has."""
        started, head, runtime, request, wanted, recalled, _ = asked
        if wanted is None or recalled is None:
            done(asked)
            return
        base64 = wanted.base64

        def looked(said: Answer | Found) -> None:
            if isinstance(said, Answer):
                done(self._whole(said, asked, base64=base64))
            else:
                done(Asked(started, head, runtime, request, wanted, recalled, said))

        runtime.recall.look_up(wanted, recalled, looked)

    def _whole(self, answer: Answer, asked: Asked, *, base64: bool) -> Reply:
        """The reply to who waits for a callback, whatever happens: nothing else would end that."""
        try:
            return self._answered(
                answer, asked.runtime, asked.head, base64=base64, started=asked.started
            )
        except Exception as failure:  # noqa: BLE001 - as just said
            return self._failed(failure, asked.head)

    def _failed(self, failure: BaseException, head: heads.Head) -> Reply:
        """A 500 for a fault of the program."""
        _log.error("a request failed", exc_info=failure)
        error = errors.Refused("The sidecar failed; its log says how.", code="internal_error")
        return self._refused(error, head)

    async def _reply(self, scope: Scope, receive: Receive, stay: room.Stay) -> Reply | Pieces:
        known: Reply | Asked | None = scope.pop(ASKED, None)
        if isinstance(known, Reply):
            return known
        head = self._read_head(scope) if known is None else known.head
        started = self._clock() if known is None else known.started
        try:
            request = known and known.request
            if request is None:
                request = await self._read(head, receive, stay)
            runtime = self._current.runtime() if known is None else known.runtime
            models.check(runtime.loaded.document, request)
            said: Answer | Found | None = known and known.found
            size = functools.partial(self._sizes.held_bytes, request.ask)
            if size() > room.SMALL_BYTES:
                self._rooms.fit(runtime.loaded.document.cache.memory_max_bytes)
                await bodies.while_there(receive, stay.take(self._rooms.vectors, size))
                if request.control == cache_control.DEFAULT:
                    said = await _looked_up(request, runtime)
            answer = (
                said
                if isinstance(said, Answer)
                else await runtime.service.embed(
                    request.ask,
                    control=request.control,
                    found=said,
                    waited_seconds=stay.waited_seconds,
                    span=head.span,
                    background=head.is_background,
                )
            )
        except errors.Refused as error:
            return self._refused(error.as_value(), head)
        except asyncio.CancelledError:
            self._left(head)
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is told
            return self._failed(failure, head)
        self._sizes.learn(request.ask, answer.vectors[0])
        # HTTP/1.0 knows no chunks.
        if self._is_long(request) and scope.get("http_version") != "1.0":
            lines = _JSON + self._head(answer, runtime, head, started=started)
            body = wire.pieces(
                vectors=answer.vectors,
                model=answer.model,
                tokens=answer.tokens,
                as_base64=request.base64,
            )
            return Pieces(_OK, lines, body)
        return self._answered(answer, runtime, head, base64=request.base64, started=started)

    def _left(self, head: heads.Head) -> None:
        """A caller left before its answer."""

    def _read_head(self, scope: Scope) -> heads.Head:
        return heads.read(scope["headers"])

    async def _read(self, head: heads.Head, receive: Receive, stay: room.Stay) -> wire.Request:
        heads.check(head)
        size = _length(head)
        if size > room.SMALL_BODY_BYTES:
            await stay.take(self._rooms.bodies, lambda: size)
        return wire.parse(await bodies.read(receive), header=head.cache_control)

    def _is_long(self, request: wire.Request) -> bool:
        """Whether the answer is too long to be held whole."""
        count = len(request.ask.items)
        if count == 1:
            return False
        size = self._sizes.vector_bytes(request.ask)
        return count * wire.row_bytes(size, as_base64=request.base64) > WHOLE_BYTES

    def _answered(
        self,
        answer: Answer,
        runtime: Runtime,
        head: heads.Head,
        *,
        base64: bool,
        started: float,
    ) -> Reply:
        lines = self._head(answer, runtime, head, started=started)
        body = wire.render(
            vectors=answer.vectors, model=answer.model, tokens=answer.tokens, as_base64=base64
        )
        self._answered_ok.value += 1
        return Reply(_OK, b"%bcontent-length: %d\r\n%b" % (_JSON, len(body), lines), body)

    def _head(self, answer: Answer, runtime: Runtime, head: heads.Head, *, started: float) -> bytes:
        return b"x-request-id: %b\r\n%b" % (
            heads.request_id(head).encode(),
            reports.head(
                answer,
                runtime.quota,
                seconds=self._clock() - started,
                background=head.is_background,
            ),
        )

    def _refused(self, error: errors.Refused, head: heads.Head) -> Reply:
        # What is reserved for applications is not used up.
        if isinstance(error, errors.QuotaExhausted) and not isinstance(error, errors.QuotaReserved):
            self._metrics.quota_exhausted()
        # The code of a rejection may be a provider's own word, and a label is of a closed list.
        ours = not isinstance(error, errors.Rejected)
        self._metrics.error((ours and error.code) or error.kind)
        self._metrics.answered(error.status)
        return refusal(
            error,
            {
                heads.REQUEST_ID: heads.request_id(head),
                reports.HEADER_ATTEMPTS: str(error.attempts),
            },
        )


async def _looked_up(request: wire.Request, runtime: Runtime) -> Answer | Found:
    """What Embeddings.look_up finds, for a task."""
    wanted = runtime.recall.wanted(request.ask, base64=request.base64)
    said = runtime.recall.answer(wanted)
    if isinstance(said, Answer):
        return said
    told: asyncio.Future[Answer | Found] = asyncio.get_running_loop().create_future()

    def done(said: Answer | Found) -> None:
        # Who was cut meanwhile has cancelled it.
        if not told.done():
            told.set_result(said)

    runtime.recall.look_up(wanted, said, done)
    return await told


async def _send_reply(reply: Reply, send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers()})
    await send({"type": "http.response.body", "body": reply.body})


def _length(head: heads.Head) -> int:
    """Of a body; the most that one may have, where it does not say."""
    said = head.content_length or ""
    return int(said) if said.isdecimal() else wire.MAX_BODY_BYTES


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
