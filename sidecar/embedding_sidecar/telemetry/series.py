"""Counters and histograms as plain numbers.

Those of prometheus_client take a lock for every addition, and a loop over all buckets for every
time: as long as answering from memory takes. Only the thread of the event loop adds to these, and
a scrape makes the library's own objects of them.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from embedding_contract import metrics as catalogue


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counter(Collector):
    """A counter of the catalogue; without labels it has its one series from the beginning."""

    def __init__(self, metric: catalogue.Metric) -> None:
        self._metric = metric
        self._series: defaultdict[tuple[str, ...], Count] = defaultdict(Count)
        if not metric.labels:
            self.of()

    def of(self, *labels: str) -> Count:
        """The series of these labels, in the catalogue's order; it is shown from now on."""
        return self._series[labels]

    def collect(self) -> Iterator[Metric]:
        """The counter, for a scrape."""
        it = self._metric
        family = CounterMetricFamily(it.name, it.help, labels=it.labels)
        for labels, count in self._series.items():
            family.add_metric(labels, count.value)
        yield family


class Times:
    """One series of a histogram; `counts` is by bucket, not cumulative."""

    __slots__ = ("_bounds", "counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Add one duration."""
        self.seconds += seconds
        self.counts[bisect_left(self._bounds, seconds)] += 1


class Histogram(Collector):
    """A histogram of the catalogue, whose buckets are seconds."""

    def __init__(self, metric: catalogue.Metric) -> None:
        self._metric = metric
        self._series = defaultdict[tuple[str, ...], Times](partial(Times, metric.buckets))

    def of(self, *labels: str) -> Times:
        """The series of these labels, in the catalogue's order; it is shown from now on."""
        return self._series[labels]

    def collect(self) -> Iterator[Metric]:
        """The histogram, for a scrape."""
        it = self._metric
        family = HistogramMetricFamily(it.name, it.help, labels=it.labels)
        bounds = [*map(str, map(float, it.buckets)), "+Inf"]
        for labels, times in self._series.items():
            cumulative = list(zip(bounds, accumulate(times.counts), strict=True))
            family.add_metric(labels, cumulative, times.seconds)
        yield family
