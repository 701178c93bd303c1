"""The endpoint for embeddings with a span around each request; used where tracing is on."""

from typing import Any

from starlette.types import Scope

from embedding_sidecar import errors, tracing
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.runtime import Runtime
from embedding_sidecar.serving.embeddings import Asked, Embeddings, Reply
from embedding_sidecar.wire import heads

_BYTES_PER_NUMBER = 4


class TracedEmbeddings(Embeddings):
    """As Embeddings. The span of a request travels with its head and ends with its answer."""

    def __init__(self, *, tracer: tracing.Tracer, **named: Any) -> None:
        super().__init__(**named)
        self._tracer = tracer

    def at_once(self, head: heads.Head, body: bytes) -> Reply | Asked | None:
        """As Embeddings.at_once; a request that it leaves to a task takes its span along."""
        runtime = self._current.runtime_or_none()
        if runtime is None:
            return None
        started, head = self._clock(), self._started(head)
        result = super().at_once(head, body)
        if result is not None:
            return result
        # A head that was known again does not say how long the body is.
        head = head._replace(content_length=str(len(body)))
        return Asked(started, head, runtime, request=None, wanted=None)

    def _left(self, head: heads.Head) -> None:
        if head.span is not None:
            head.span.refused(errors.Refused("The caller left.", code="client_disconnected"))

    def _read_head(self, scope: Scope) -> heads.Head:
        return self._started(super()._read_head(scope))

    def _started(self, head: heads.Head) -> heads.Head:
        span = self._tracer.request(traceparent=head.traceparent, tracestate=head.tracestate)
        return head._replace(span=span)

    def _head(self, answer: Answer, runtime: Runtime, head: heads.Head, *, started: float) -> bytes:
        if head.span is not None:
            head.span.answered(
                provider=answer.kind.lower(),
                model=answer.model,
                dimensions=len(answer.vectors[0]) // _BYTES_PER_NUMBER,
                tokens=answer.tokens,
                hits=answer.hits,
                items=answer.items,
            )
        return super()._head(answer, runtime, head, started=started)

    def _refused(self, error: errors.Refused, head: heads.Head) -> Reply:
        if head.span is not None:
            head.span.refused(error)
        return super()._refused(error, head)
