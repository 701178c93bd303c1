"""The metrics that workers and search pods record, of the catalogue's VECTORS."""

import math
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from embedding_contract import metrics as catalogue

FALLBACK_REASONS: Final = ("quota", "provider", "no_vectors", "space", "timeout", "error")
"""The reasons why a search was answered without vectors: a closed set."""


class Metrics:
    """Every series of one worker or search pod, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # upstream's
        self.registry = CollectorRegistry()
        counters = {
            it.name: Counter(it.name, it.help, it.labels, registry=self.registry)
            for it in catalogue.VECTORS
            if it.kind == "counter"
        }
        gauges = {
            it.name: Gauge(it.name, it.help, it.labels, registry=self.registry)
            for it in catalogue.VECTORS
            if it.kind == "gauge"
        }
        for gauge in gauges.values():
            # NaN until it is counted: 0 would say that the index is empty.
            gauge.set(math.nan)
        histograms = {
            it.name: Histogram(
                it.name, it.help, it.labels, registry=self.registry, buckets=it.buckets
            )
            for it in catalogue.VECTORS
            if it.kind == "histogram"
        }
        self._fallbacks = counters["aos_vector_fallback_total"]
        for reason in FALLBACK_REASONS:
            # A series that begins at 0 shows its first increase in a rate.
            self._fallbacks.labels(reason)
        self._size = gauges["aos_vector_index_size"]
        self._missing = gauges["aos_vector_index_null_count"]
        self._search_seconds = histograms["aos_vector_query_latency_seconds"]
        self._rows = counters["aos_memory_backfill_progress_total"]
        self._batch_seconds = histograms["aos_memory_backfill_batch_duration_seconds"]

    def rows_embedded(self, rows: int) -> None:
        """Record that the backfill gave so many rows a vector."""
        self._rows.inc(rows)

    def batch_took(self, seconds: float) -> None:
        """Record the duration of a batch of the backfill."""
        self._batch_seconds.observe(seconds)

    def index_counted(self, *, size: int, missing: int) -> None:
        """Record rows with a vector, and rows waiting for one, of the target that searches use."""
        self._size.set(size)
        self._missing.set(missing)

    def searched(self, seconds: float) -> None:
        """Record how long a search by vectors took in the database."""
        self._search_seconds.observe(seconds)

    def fell_back(self, reason: str) -> None:
        """Record a search answered without vectors; `reason` is one of `FALLBACK_REASONS`."""
        self._fallbacks.labels(reason).inc()

    def exposition(self) -> bytes:
        """The text of a scrape."""
        return prometheus_client.generate_latest(self.registry)
