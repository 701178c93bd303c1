"""The operator's part of the catalogue as prometheus-client objects."""

import heapq
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

import prometheus_client.exposition
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from embedding_contract import metrics as catalogue
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.serving.listener import Reply

RESULTS: Final = ("ok", "failed")
POLICIES_SHOWN: Final = 2000
"""The bound in the catalogue, as tenants may make any number of policies."""

_UNCOVERED: Final = "embedding_operator_pods_uncovered"
_RETIRES: Final = "embedding_operator_model_retires_timestamp_seconds"
_OF_POLICIES: Final = frozenset({_UNCOVERED, _RETIRES})
_BY_NAME: Final = {metric.name: metric for metric in catalogue.OPERATOR}


Samples = Mapping[tuple[str, ...], float]
"""Values of one policy's series, by the labels after namespace and policy."""


class OfPolicies(Collector):
    """A gauge of policies, of at most POLICIES_SHOWN: those with the least `urgency` are shown."""

    def __init__(self, name: str, *, urgency: Callable[[Samples], float]) -> None:
        self._metric = _BY_NAME[name]
        self._urgency = urgency
        self._lock = threading.Lock()
        self._held: dict[ObjectKey, Samples] = {}

    def tell(self, policy: ObjectKey, samples: Samples) -> None:
        """Set the series of a policy; none removes it."""
        with self._lock:
            if samples:
                self._held[policy] = samples
            else:
                self._held.pop(policy, None)

    def collect(self) -> Iterator[Metric]:
        """The series of the policies with the least urgency's figure."""
        with self._lock:
            shown = heapq.nsmallest(
                POLICIES_SHOWN, self._held.items(), key=lambda it: self._urgency(it[1])
            )
        metric = self._metric
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for policy, samples in shown:
            for labels, value in samples.items():
                family.add_metric((*policy, *labels), value)
        yield family


class Metrics:
    """Every series of the operator, in its own registry."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # upstream's
        self.registry = CollectorRegistry()
        made = {
            metric.name: _collector(metric, self.registry)
            for metric in catalogue.OPERATOR
            if metric.name not in _OF_POLICIES
        }
        self._uncovered = OfPolicies(_UNCOVERED, urgency=lambda it: -max(it.values()))
        self._retires = OfPolicies(_RETIRES, urgency=lambda it: min(it.values()))
        for collector in (self._uncovered, self._retires):
            self.registry.register(collector)
        self._counters = {name: it for name, it in made.items() if isinstance(it, Counter)}
        self._gauges = {name: it for name, it in made.items() if isinstance(it, Gauge)}
        self._histograms = {name: it for name, it in made.items() if isinstance(it, Histogram)}

    def reconciled(self, *, result: str, seconds: float) -> None:
        """Count a reconcile."""
        self._counters["embedding_operator_reconciles_total"].labels(result).inc()
        self._histograms["embedding_operator_reconcile_seconds"].observe(seconds)

    def injected(self, *, result: str, reason: str) -> None:
        """Count an answer of the webhook."""
        self._counters["embedding_operator_injections_total"].labels(result, reason).inc()

    def drifted(self, kind: str) -> None:
        """Count a repaired object."""
        self._counters["embedding_operator_drift_repaired_total"].labels(kind).inc()

    def vault_asked(self, outcome: str) -> None:
        """Count a request to Vault."""
        self._counters["embedding_operator_vault_requests_total"].labels(outcome).inc()

    def restarted(self, kind: str) -> None:
        """Count a restarted workload."""
        self._counters["embedding_operator_rollouts_total"].labels(kind).inc()

    def skipped(self, kind: str, count: int) -> None:
        """Count objects that were too large or could not be decoded."""
        self._counters["embedding_operator_skipped_objects_total"].labels(kind).inc(count)

    def monitoring_asked(self, server: str, outcome: str) -> None:
        """Count a request to a Prometheus or an Alertmanager."""
        self._counters["embedding_operator_monitoring_requests_total"].labels(server, outcome).inc()

    def queued(self, depth: int) -> None:
        """Set the number of waiting keys."""
        self._gauges["embedding_operator_queue_depth"].set(depth)

    def watch_up(self, kind: str, is_up: Callable[[], bool]) -> None:
        """Call `is_up` at each scrape, for the watch of a kind, named by its plural."""
        gauge = self._gauges["embedding_operator_watch_up"].labels(kind)
        gauge.set_function(lambda: float(is_up()))

    def watch_silence(self, kind: str, silent_seconds: Callable[[], float]) -> None:
        """Call `silent_seconds` at each scrape, for the watch of a kind, named by its plural."""
        gauge = self._gauges["embedding_operator_watch_silent_seconds"].labels(kind)
        gauge.set_function(silent_seconds)

    def watch_lease(self, is_held: Callable[[], bool]) -> None:
        """Call `is_held` at each scrape."""
        self._gauges["embedding_operator_lease_held"].set_function(lambda: float(is_held()))

    def sidecar_asked(self, result: str) -> None:
        """Count a request to a sidecar."""
        self._counters["embedding_operator_sidecar_requests_total"].labels(result).inc()

    def watch_oldest(self, oldest_seconds: Callable[[], float]) -> None:
        """Call `oldest_seconds` at each scrape, for the age of the oldest reconcile."""
        self._gauges["embedding_operator_oldest_reconcile_seconds"].set_function(oldest_seconds)

    def uncovered(self, policy: ObjectKey, pods: int) -> None:
        """Set the number of a policy's pods without a sidecar; 0 removes the policy."""
        self._uncovered.tell(policy, {(): pods} if pods else {})

    def retires(self, policy: ObjectKey, ends: Samples) -> None:
        """Set the ends of a policy's models, in Unix time, by provider and model."""
        self._retires.tell(policy, ends)

    def page(self, accept: str) -> Reply:
        """The answer to a scrape, in the format of its Accept header."""
        encode, content_type = prometheus_client.exposition.choose_encoder(accept)
        return Reply(HTTPStatus.OK, encode(self.registry), content_type)


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
