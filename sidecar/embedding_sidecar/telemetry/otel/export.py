"""Export by OTLP over HTTP, to the collector that the OTEL_* variables name.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import asyncio
import contextlib
import threading
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from embedding_sidecar.telemetry.otel import histograms, spans

TIMEOUT_SECONDS: Final = 2.0
"""The longest that one export may take, and the last ones of a process that ends."""
_TICK_SECONDS: Final = 0.02


class Session(requests.Session):
    """Reads no body of an answer, which may have any length: exporters need its status."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request; the status and the headers of its answer."""
        answer = super().send(request, **{**options, "stream": True})
        answer.close()
        return answer


class Telemetry:
    """The tracer and its exports; to be closed."""

    def __init__(self, *, sampler: str | None, interval_seconds: float) -> None:
        resource = Resource.create({SERVICE_NAME: "embedding-sidecar"})
        self.tracer = spans.Tracer(
            spans=BatchSpanProcessor(OTLPSpanExporter(timeout=TIMEOUT_SECONDS, session=Session())),
            resource=resource,
            root_ratio=None if sampler else spans.ROOT_RATIO,
        )
        self._metrics = histograms.Exports(
            [self.tracer.duration, self.tracer.input_tokens],
            exporter=OTLPMetricExporter(timeout=TIMEOUT_SECONDS, session=Session()),
            resource=resource,
            interval_seconds=interval_seconds,
        )

    async def close(self) -> None:
        """Export the rest, for TIMEOUT_SECONDS at most."""
        # Not in the loop's own threads, for whose end it waits: a collector may be slow, and an
        # export under way has a time-out for each of its reads only.
        ending = [
            threading.Thread(target=it.close, name="otel-close", daemon=True)
            for it in (self.tracer, self._metrics)
        ]
        for thread in ending:
            thread.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while any(it.is_alive() for it in ending):  # noqa: ASYNC110 - a thread wakes no event loop
                    await asyncio.sleep(_TICK_SECONDS)
