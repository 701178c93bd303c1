"""Spans by the OpenTelemetry SDK, and the two metrics of each request."""

import random
import time
from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from embedding_sidecar import errors
from embedding_sidecar.telemetry.otel import conventions, histograms

ROOT_RATIO: Final = 0.01
"""The share of requests without a caller's span that is sampled, unless OTEL_TRACES_SAMPLER says
otherwise. A sampled request costs more CPU than a miss does."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Tracer:
    """Starts a span for each request, exported by `spans`, and counts the two metrics.

    `root_ratio` is the share of requests without a caller's span that is sampled; None leaves it to
    the sampler that OTEL_TRACES_SAMPLER names. `share` draws a number of 0 to 1.
    """

    def __init__(
        self,
        *,
        spans: SpanProcessor,
        resource: Resource,
        root_ratio: float | None = ROOT_RATIO,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._root_ratio = root_ratio
        self._share = share
        sampler = None if root_ratio is None else DEFAULT_ON
        self._provider = TracerProvider(resource=resource, sampler=sampler)
        self._provider.add_span_processor(spans)
        self._tracer = self._provider.get_tracer(conventions.SCOPE)
        self.duration = histograms.Histogram(
            name=conventions.DURATION,
            unit="s",
            description="GenAI client embeddings operation duration.",
            bounds=conventions.DURATION_BUCKETS,
        )
        self.input_tokens = histograms.Histogram(
            name=conventions.INPUT_TOKENS,
            unit="{token}",
            description="Input tokens that the provider billed for one operation.",
            bounds=conventions.TOKEN_BUCKETS,
        )

    def request(self, *, traceparent: str | None, tracestate: str | None) -> "_RequestSpan":
        """Start the span of a request, as a child of its caller's where that is given."""
        context = None
        if traceparent is not None:
            carrier = {"traceparent": traceparent, "tracestate": tracestate or ""}
            context = _PROPAGATOR.extract(carrier)
            if not trace.get_current_span(context).get_span_context().is_valid:
                context = None  # not valid: W3C Trace Context, section 3.2.2.3
        if context is None and self._root_ratio is not None and self._share() >= self._root_ratio:
            # The SDK's sampler would decide the same for more CPU, and most requests end here.
            return _RequestSpan(self, trace.INVALID_SPAN, is_child=False)
        span = self._tracer.start_span(
            conventions.OPERATION, context=context, kind=trace.SpanKind.CLIENT
        )
        return _RequestSpan(self, span, is_child=context is not None)

    def child(self, parent: trace.Span, attributes: conventions.Attributes) -> trace.Span:
        """Start the span of an HTTP request below another one."""
        return self._tracer.start_span(
            "POST",
            context=trace.set_span_in_context(parent),
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
        )

    def close(self) -> None:
        """Export the spans that are left."""
        self._provider.shutdown()


class _RequestSpan:
    """The span of one request; see tracing.RequestSpan. It ends once."""

    __slots__ = ("_is_child", "_started", "_tracer", "span")

    def __init__(self, tracer: Tracer, span: trace.Span, *, is_child: bool) -> None:
        self._tracer = tracer
        self._is_child = is_child
        self._started: float | None = time.perf_counter()
        self.span = span

    def call(self, *, provider: str, model: str, url: str) -> "_CallSpan | None":
        if not self.span.is_recording():
            # The provider gets the caller's trace all the same, with its flag of no recording.
            return _CallSpan(self.span) if self._is_child else None
        attributes = {**conventions.server(url), **conventions.operation(provider, model)}
        return _CallSpan(self._tracer.child(self.span, attributes))

    def failed_over(self, *, provider: str) -> None:
        self.span.add_event(
            "failover", {"gen_ai.provider.name": conventions.provider_name(provider)}
        )

    def answered(
        self, *, provider: str, model: str, dimensions: int, tokens: int, hits: int, items: int
    ) -> None:
        if self.span.is_recording():
            self.span.update_name(f"{conventions.OPERATION} {model}")
            self.span.set_attributes(conventions.operation(provider, model))
            self.span.set_attribute("gen_ai.embeddings.dimension.count", dimensions)
            self.span.set_attribute("gen_ai.usage.input_tokens", tokens)
            if hits:
                self.span.add_event("cache_hit", {"hits": hits, "items": items})
        if tokens and self._started is not None:
            self._tracer.input_tokens.of(provider, model).add(tokens)
        self._end(self._tracer.duration.of(provider, model))

    def refused(self, error: errors.Refused) -> None:
        """End the span of a request that was refused, without the message: it may quote texts."""
        # A rejection's code may be a provider's own word, and labels come from a closed list.
        code = error.code if error.code and not isinstance(error, errors.Rejected) else error.kind
        if self.span.is_recording():
            self.span.set_attribute("error.type", code)
            self.span.set_status(trace.Status(trace.StatusCode.ERROR))
            attributes: conventions.Attributes = {
                "error.type": code,
                "http.response.status_code": error.status,
            }
            self.span.add_event("refusal", attributes)
        self._end(self._tracer.duration.of("", "", code))

    def _end(self, series: histograms.Series) -> None:
        started, self._started = self._started, None
        if started is not None:
            series.add(time.perf_counter() - started)
            self.span.end()


class _CallSpan:
    """The span of one HTTP request to a provider; see tracing.CallSpan."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        _PROPAGATOR.inject(self.headers, context=trace.set_span_in_context(span))

    def link(self, other: object) -> None:
        if isinstance(other, _RequestSpan) and other.span.get_span_context().is_valid:
            self._span.add_link(other.span.get_span_context())

    def end(self, *, outcome: str) -> None:
        if not self._span.is_recording():
            return
        if outcome != "ok":
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR))
        self._span.end()
