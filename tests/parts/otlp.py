"""A collector of OpenTelemetry data on a real socket: OTLP over HTTP, kept as decoded messages."""

import gzip
import threading
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass
class Collector:
    """What was exported, in the order it came; `raw` is all of it as bytes."""

    spans: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    raw: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> Starlette:
        """The collector as an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/traces", self._traces, methods=["POST"]),
                Route("/v1/metrics", self._metrics, methods=["POST"]),
            ]
        )

    def named(self, name: str) -> list[Any]:
        """The spans of this name."""
        with self._lock:
            return [it for it in self.spans if it.name == name]

    def metric(self, name: str) -> list[Any]:
        """The data points of the newest export of this histogram."""
        with self._lock:
            found = [it for it in self.metrics if it.name == name]
        return list(found[-1].histogram.data_points) if found else []

    async def _traces(self, request: Request) -> Response:
        told = ExportTraceServiceRequest.FromString(await self._body(request))
        with self._lock:
            for resource in told.resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
        return _answer(ExportTraceServiceResponse())

    async def _metrics(self, request: Request) -> Response:
        told = ExportMetricsServiceRequest.FromString(await self._body(request))
        with self._lock:
            for resource in told.resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics += scope.metrics
        return _answer(ExportMetricsServiceResponse())

    async def _body(self, request: Request) -> bytes:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self._lock:
            self.raw += body
        return body


def attributes(message: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a data point."""
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in message.attributes}


def _answer(message: Any) -> Response:
    return Response(message.SerializeToString(), media_type="application/x-protobuf")
