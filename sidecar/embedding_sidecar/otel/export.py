"""Export by OTLP over HTTP, to where the OTEL_* variables say.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import asyncio
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from embedding_sidecar.otel import histograms, spans

TIMEOUT_SECONDS: Final = 2.0
"""The longest that one export may take, and the last ones of a process that ends."""


class Telemetry:
    """The tracer and its exports; to be closed."""

    def __init__(self, *, sampler: str | None, interval_seconds: float) -> None:
        resource = Resource.create({SERVICE_NAME: "embedding-sidecar"})
        self.tracer = spans.Tracer(
            spans=BatchSpanProcessor(OTLPSpanExporter(timeout=TIMEOUT_SECONDS)),
            resource=resource,
            root_ratio=None if sampler else spans.ROOT_RATIO,
        )
        self._metrics = histograms.Exports(
            [self.tracer.duration, self.tracer.input_tokens],
            exporter=OTLPMetricExporter(timeout=TIMEOUT_SECONDS),
            resource=resource,
            interval_seconds=interval_seconds,
        )

    async def close(self) -> None:
        """Export what is left, for at most TIMEOUT_SECONDS; the rest is lost with the process."""
        ending = [asyncio.to_thread(it.close) for it in (self.tracer, self._metrics)]
        await asyncio.wait(map(asyncio.ensure_future, ending), timeout=TIMEOUT_SECONDS)
