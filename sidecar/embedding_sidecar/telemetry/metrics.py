"""The sidecar's metrics of the catalogue."""

from collections.abc import Mapping
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge

from embedding_contract import metrics as catalogue
from embedding_sidecar.telemetry import series

_LAYERS: Final = ("memory", "redis")


class Metrics:
    """Every series of one sidecar, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # upstream's
        self.registry = CollectorRegistry()
        self._counters = {
            it.name: series.Counter(it) for it in catalogue.SIDECAR if it.kind == "counter"
        }
        self._histograms = {
            it.name: series.Histogram(it) for it in catalogue.SIDECAR if it.kind == "histogram"
        }
        for collector in (*self._counters.values(), *self._histograms.values()):
            self.registry.register(collector)
        self._gauges = {
            it.name: Gauge(it.name, it.help, it.labels, registry=self.registry)
            for it in catalogue.SIDECAR
            if it.kind == "gauge"
        }
        # By a name of their own where a miss counts: each look-up costs as much as the count.
        self._calls = self._counters["aos_embedding_api_calls_total"]
        self._call_seconds = self._histograms["aos_embedding_api_latency_seconds"]
        self._tokens = self._counters["aos_embedding_tokens_total"]
        self._tokens_saved = self._counters["aos_embedding_tokens_saved_total"]
        self._misses = self._counters["aos_embedding_cache_misses_total"].of()
        self.answered_ok = self._counters["aos_embedding_requests_total"].of("200")
        """Requests for embeddings that were answered with 200; counted without a method call, as an
        answer from memory takes microseconds."""
        hits = self._counters["aos_embedding_cache_hits_total"]
        seconds = self._histograms["aos_embedding_cache_latency_seconds"]
        self._lookups = {layer: (hits.of(layer), seconds.of(layer)) for layer in _LAYERS}
        self.show("aos_embedding_policy_info", {"": 1})

    def call(self, *, provider: str, model: str, outcome: str, seconds: float) -> None:
        """One HTTP request to a provider ended."""
        self._calls.of(provider, model, outcome).value += 1
        self._call_seconds.of(provider, model).add(seconds)

    def tokens(self, *, provider: str, model: str, tokens: int) -> None:
        """A provider billed tokens."""
        self._tokens.of(provider, model).value += tokens

    def error(self, kind: str, provider: str = "") -> None:
        """An error occurred; `kind` is one of a closed list."""
        self._counters["aos_embedding_errors_total"].of(kind, provider).value += 1

    def failover(self, provider: str) -> None:
        """A provider other than the first candidate answered."""
        self._counters["aos_embedding_failovers_total"].of(provider).value += 1

    def looked_up(self, layer: str, *, hits: int, seconds: float) -> None:
        """A request's items were looked up in one layer of the cache."""
        found, took = self._lookups[layer]
        found.value += hits
        took.add(seconds)

    def missed(self, items: int) -> None:
        """Items were found in no layer."""
        self._misses.value += items

    def saved(self, *, model: str, tokens: int) -> None:
        """The cache spared an answer of this model so many tokens."""
        self._tokens_saved.of(model).value += tokens

    def quota_exhausted(self) -> None:
        """A request was refused because the day is used up."""
        self._counters["aos_embedding_quota_exhausted_total"].of().value += 1

    def quota_observed(self, period: str, unit: str) -> None:
        """A call exceeded a limit that is only observed."""
        self._counters["aos_embedding_quota_observed_total"].of(period, unit).value += 1

    def answered(self, status: int) -> None:
        """A request for embeddings was answered with this HTTP status."""
        self._counters["aos_embedding_requests_total"].of(str(status)).value += 1

    def set(self, name: str, value: float | None) -> None:
        """Set a gauge without labels; None, for no limit, is +Inf."""
        self._gauges[name].set(float("inf") if value is None else value)

    def show(
        self,
        name: str,
        by_label: Mapping[str, float | None] | Mapping[tuple[str, str], float],
    ) -> None:
        """Set a gauge for these values of its label, or labels; others, and None, are not shown."""
        gauge = self._gauges[name]
        gauge.clear()
        for label, value in by_label.items():
            if value is not None:
                gauge.labels(*([label] if isinstance(label, str) else label)).set(value)

    def exposition(self) -> bytes:
        """The text of a scrape."""
        return prometheus_client.generate_latest(self.registry)
