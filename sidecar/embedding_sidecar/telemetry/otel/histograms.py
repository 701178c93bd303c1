"""Histograms counted in plain numbers and exported as the OpenTelemetry SDK's data points.

The SDK's own `Histogram.record` checks and hashes the attributes of each measurement, which takes
4 to 8 us, twice for each request. Here a series is found once and then counted.
"""

import bisect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from embedding_sidecar.telemetry.otel import conventions

_SERIES: Final = 256
"""Bound of the series of one histogram: models and error types come from closed lists."""


class Series:
    """One series: how many values fell into each bucket, whose upper bound is inclusive."""

    __slots__ = ("_bounds", "attributes", "counts", "largest", "smallest", "total")

    def __init__(self, bounds: Sequence[float], attributes: conventions.Attributes) -> None:
        self._bounds = bounds
        self.attributes = attributes
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.smallest = float("inf")
        self.largest = float("-inf")

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One metric; `of` finds the series of an operation."""

    name: str
    unit: str
    description: str
    bounds: Sequence[float]
    _found: dict[tuple[str, str, str], Series] = field(default_factory=dict)

    def of(self, provider: str, model: str, error: str = "") -> Series:
        """The series of an operation; the last one for all beyond _SERIES."""
        key = (provider, model, error)
        series = self._found.get(key)
        if series is None:
            if len(self._found) >= _SERIES:
                return next(reversed(self._found.values()))
            attributes = conventions.operation(provider, model, error)
            series = self._found[key] = Series(self.bounds, attributes)
        return series

    def collect(self, *, started_ns: int, now_ns: int) -> export.Metric:
        """All series since the process started, by Unix time in nanoseconds."""
        points = [
            export.HistogramDataPoint(
                attributes=dict(it.attributes),
                start_time_unix_nano=started_ns,
                time_unix_nano=now_ns,
                count=sum(counts := tuple(it.counts)),
                sum=it.total,
                bucket_counts=counts,
                explicit_bounds=self.bounds,
                min=it.smallest,
                max=it.largest,
            )
            for it in tuple(self._found.values())
        ]
        data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
        return export.Metric(self.name, self.description, self.unit, data)


class Exports:
    """Exports histograms once an interval from a thread of its own; to be closed."""

    def __init__(
        self,
        histograms: Sequence[Histogram],
        *,
        exporter: export.MetricExporter,
        resource: Resource,
        interval_seconds: float,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._histograms = histograms
        self._exporter = exporter
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._wall_clock_ns = wall_clock_ns
        self._started_ns = wall_clock_ns()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Export once more and end."""
        self._closing.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            self._export()
        self._export()

    def _export(self) -> None:
        # An exporter logs its failures; the next export has all that this one had.
        now_ns = self._wall_clock_ns()
        metrics = [
            it.collect(started_ns=self._started_ns, now_ns=now_ns) for it in self._histograms
        ]
        scope = export.ScopeMetrics(InstrumentationScope(conventions.SCOPE), metrics, "")
        told = export.MetricsData([export.ResourceMetrics(self._resource, [scope], "")])
        self._exporter.export(told)
