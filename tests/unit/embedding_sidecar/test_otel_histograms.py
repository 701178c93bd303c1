"""Histograms of the OpenTelemetry export."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider, export
from opentelemetry.sdk.resources import Resource

from embedding_sidecar.telemetry.otel import conventions, histograms


def histogram(bounds=conventions.DURATION_BUCKETS):
    return histograms.Histogram(name="h", unit="s", description="d", bounds=bounds)


@given(st.lists(st.sampled_from([0.0, 0.005, 0.01, 0.010001, 0.02, 81.92, 82.0, 1e6])))
def test_counts_equal_sdks_own(values):
    """The SDK's Histogram, with the same buckets, is the reference."""
    reader = export.InMemoryMetricReader()
    meter = MeterProvider(metric_readers=[reader], resource=Resource.get_empty()).get_meter("m")
    reference = meter.create_histogram(
        "h", explicit_bucket_boundaries_advisory=list(conventions.DURATION_BUCKETS)
    )
    ours = histogram()
    for value in values:
        reference.record(value, dict(conventions.operation("openai", "m")))
        ours.of("openai", "m").add(value)
    points = ours.collect(started_ns=0, now_ns=1).data.data_points
    told = reader.get_metrics_data()
    if not values:
        assert not points
        return
    assert told is not None
    [expected] = told.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    [point] = points
    for field in ("attributes", "count", "bucket_counts", "explicit_bounds", "min", "max"):
        assert getattr(point, field) == getattr(expected, field)


def test_too_many_series_share_last_one():
    full = histogram()
    for number in range(300):
        full.of("openai", f"model-{number}").add(1)
    points = full.collect(started_ns=0, now_ns=1).data.data_points
    assert len(points) == 256
    assert sum(point.count for point in points) == 300


class Exporter(export.MetricExporter):
    def __init__(self, *, fails=False):
        super().__init__()
        self.exported = []
        self.first = threading.Event()
        self.fails = fails
        self.closed = False

    def export(self, metrics_data, timeout_millis=0, **kwargs):
        self.exported.append(metrics_data)
        self.first.set()
        return (
            export.MetricExportResult.FAILURE if self.fails else export.MetricExportResult.SUCCESS
        )

    def force_flush(self, timeout_millis=0):
        return True

    def shutdown(self, timeout_millis=0, **kwargs):
        self.closed = True


def exports(exporter, *, interval_seconds):
    return histograms.Exports(
        [histogram()],
        exporter=exporter,
        resource=Resource.get_empty(),
        interval_seconds=interval_seconds,
    )


def test_close_exports_once_more_and_closes_exporter():
    exporter = Exporter()
    exports(exporter, interval_seconds=3600).close()
    assert len(exporter.exported) == 1
    assert exporter.closed


def test_failed_export_is_followed_by_next():
    exporter = Exporter(fails=True)
    running = exports(exporter, interval_seconds=0.01)
    assert exporter.first.wait(30)
    running.close()
    assert len(exporter.exported) >= 2
