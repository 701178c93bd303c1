"""The sidecar's part of the catalogue as prometheus-client objects, children bound once."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import Metric as PrometheusMetric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from embedding_contract import metrics as catalogue

_LAYERS = ("memory", "redis")
_HITS = "aos_embedding_cache_hits_total"
_SECONDS = "aos_embedding_cache_latency_seconds"


class Metrics:
    """Every series of one sidecar, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # upstream's
        self.registry = CollectorRegistry()
        of_their_own = {it.name: it for it in catalogue.SIDECAR if it.name in (_HITS, _SECONDS)}
        made = {
            metric.name: _collector(metric, self.registry)
            for metric in catalogue.SIDECAR
            if metric.name not in of_their_own
        }
        self._counters = {name: it for name, it in made.items() if isinstance(it, Counter)}
        self._gauges = {name: it for name, it in made.items() if isinstance(it, Gauge)}
        self._histograms = {name: it for name, it in made.items() if isinstance(it, Histogram)}
        self._lookups = _Lookups(hits=of_their_own[_HITS], seconds=of_their_own[_SECONDS])
        self.registry.register(self._lookups)
        self._bound: dict[tuple[str, ...], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._misses = self._counters["aos_embedding_cache_misses_total"]
        self._quota_exhausted = self._counters["aos_embedding_quota_exhausted_total"]
        self.document_in_force("")

    # --- what the service observes

    def call(self, *, provider: str, model: str, outcome: str, seconds: float) -> None:
        """One HTTP request to a provider ended."""
        self._counter("aos_embedding_api_calls_total", provider, model, outcome).inc()
        bound = self._seconds.get((provider, model))
        if bound is None:
            bound = self._histograms["aos_embedding_api_latency_seconds"].labels(provider, model)
            self._seconds[provider, model] = bound
        bound.observe(seconds)

    def tokens(self, *, provider: str, model: str, tokens: int) -> None:
        """A provider billed tokens."""
        self._counter("aos_embedding_tokens_total", provider, model).inc(tokens)

    def error(self, kind: str, provider: str = "") -> None:
        """Something failed; `kind` is of a closed list of words."""
        self._counters["aos_embedding_errors_total"].labels(kind, provider).inc()

    def failover(self, provider: str) -> None:
        """A provider other than the first choice answered."""
        self._counters["aos_embedding_failovers_total"].labels(provider).inc()

    def looked_up(self, layer: str, *, hits: int, seconds: float) -> None:
        """All items of a request were looked up in one layer of the cache."""
        self._lookups.add(layer, hits=hits, seconds=seconds)

    def missed(self, items: int) -> None:
        """Items were found in no layer."""
        self._misses.inc(items)

    def saved(self, *, model: str, tokens: int) -> None:
        """An answer of this model needed so many tokens less than without the cache."""
        self._counter("aos_embedding_tokens_saved_total", model).inc(tokens)

    def _counter(self, name: str, *labels: str) -> Counter:
        bound = self._bound.get((name, *labels))
        if bound is None:
            bound = self._bound[name, *labels] = self._counters[name].labels(*labels)
        return bound

    # --- what the process observes

    def quota_exhausted(self) -> None:
        """A request was refused because the day is used up."""
        self._quota_exhausted.inc()

    def daily(self, *, calls: int, limit: int | None) -> None:
        """Calls of the whole policy today, and its limit."""
        self._gauges["aos_embedding_daily_calls"].set(calls)
        self._gauges["aos_embedding_daily_quota"].set(float("inf") if limit is None else limit)

    def memory_bytes(self, held: int) -> None:
        """Bytes the in-memory layer holds."""
        self._gauges["aos_embedding_cache_memory_bytes"].set(held)

    def document_in_force(self, fingerprint: str) -> None:
        """The document in force changed; empty means none."""
        info = self._gauges["aos_embedding_policy_info"]
        info.clear()
        info.labels(fingerprint).set(1)

    def document_rejected(self, *, rejected: bool) -> None:
        """Whether the newest document is one this sidecar cannot use."""
        self._gauges["aos_embedding_policy_rejected"].set(int(rejected))

    def keys(self, refused: Mapping[str, bool]) -> None:
        """Whether each provider, by name, refuses the newest key; others are shown no more."""
        gauge = self._gauges["aos_embedding_key_refused"]
        gauge.clear()
        for provider, is_refused in refused.items():
            gauge.labels(provider).set(int(is_refused))

    def exposition(self) -> bytes:
        """The text a scrape gets."""
        return prometheus_client.generate_latest(self.registry)


class _Layer:
    """What was looked up in one layer; `counts` is by bucket, not cumulative."""

    __slots__ = ("counts", "hits", "seconds")

    def __init__(self, buckets: int) -> None:
        self.hits = 0
        self.seconds = 0.0
        self.counts = [0] * (buckets + 1)


class _Lookups(Collector):
    """Hits and times of look-ups as plain numbers.

    A hit is answered in a few microseconds, and the client library's locks would take one of them.
    All of this is called in the one thread of the loop.
    """

    def __init__(self, *, hits: catalogue.Metric, seconds: catalogue.Metric) -> None:
        self._hits = hits
        self._seconds = seconds
        self._bounds = seconds.buckets
        self._layers = {layer: _Layer(len(seconds.buckets)) for layer in _LAYERS}

    def add(self, layer: str, *, hits: int, seconds: float) -> None:
        """One look-up."""
        seen = self._layers[layer]
        seen.hits += hits
        seen.seconds += seconds
        seen.counts[bisect_left(self._bounds, seconds)] += 1

    def collect(self) -> Iterator[PrometheusMetric]:
        """What a scrape shows."""
        hits = CounterMetricFamily(self._hits.name, self._hits.help, labels=self._hits.labels)
        seconds = HistogramMetricFamily(
            self._seconds.name, self._seconds.help, labels=self._seconds.labels
        )
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for layer, seen in self._layers.items():
            hits.add_metric([layer], seen.hits)
            cumulative = list(zip(bounds, accumulate(seen.counts), strict=True))
            seconds.add_metric([layer], cumulative, seen.seconds)
        yield hits
        yield seconds


def _collector(
    metric: catalogue.Metric, registry: CollectorRegistry
) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(
        metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry
    )
