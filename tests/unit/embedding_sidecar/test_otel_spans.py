"""The choice of requests that are recorded."""

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from embedding_sidecar.telemetry.otel import spans

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("traceparent", "is_recorded"),
    [(None, False), ("", False), ("nonsense", False), (f"{CALLER[:-3]}", False), (CALLER, True)],
)
def test_traceparent_that_is_none_counts_as_no_callers_span(traceparent, is_recorded):
    tracer = spans.Tracer(spans=SpanProcessor(), resource=Resource.create({}), share=lambda: 0.5)
    request = tracer.request(traceparent=traceparent, tracestate=None)
    assert request.span.is_recording() is is_recorded
