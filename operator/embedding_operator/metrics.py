"""The operator's part of the catalogue as prometheus-client objects."""

from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from embedding_contract import metrics as catalogue

RESULTS: Final = ("ok", "failed")


class Metrics:
    """Every series of the operator, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # upstream's
        self.registry = CollectorRegistry()
        made = {metric.name: _collector(metric, self.registry) for metric in catalogue.OPERATOR}
        self._counters = {name: it for name, it in made.items() if isinstance(it, Counter)}
        self._gauges = {name: it for name, it in made.items() if isinstance(it, Gauge)}
        self._histograms = {name: it for name, it in made.items() if isinstance(it, Histogram)}

    def reconciled(self, *, result: str, seconds: float) -> None:
        """A reconcile ended."""
        self._counters["embedding_operator_reconciles_total"].labels(result).inc()
        self._histograms["embedding_operator_reconcile_seconds"].observe(seconds)

    def injected(self, *, result: str, reason: str) -> None:
        """The webhook answered for a pod."""
        self._counters["embedding_operator_injections_total"].labels(result, reason).inc()

    def drifted(self, kind: str) -> None:
        """An owned object was put back."""
        self._counters["embedding_operator_drift_repaired_total"].labels(kind).inc()

    def vault_asked(self, outcome: str) -> None:
        """Vault answered, or did not."""
        self._counters["embedding_operator_vault_requests_total"].labels(outcome).inc()

    def restarted(self, kind: str) -> None:
        """A workload of this kind was restarted."""
        self._counters["embedding_operator_rollouts_total"].labels(kind).inc()

    def monitoring_asked(self, server: str, outcome: str) -> None:
        """A Prometheus or an Alertmanager answered, or did not."""
        self._counters["embedding_operator_monitoring_requests_total"].labels(server, outcome).inc()

    def queued(self, depth: int) -> None:
        """So many policies wait."""
        self._gauges["embedding_operator_queue_depth"].set(depth)

    def serve(self, port: int) -> None:
        """Answer scrapes on this port of all addresses."""
        prometheus_client.start_http_server(port, registry=self.registry)


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
