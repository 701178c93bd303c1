"""The metric catalogue: every metric of the programs, as values.

The programs build their collectors from it, alerts and dashboards are checked against it and
docs/metrics.md is written from it. The `aos_embedding_*` names are the user's, kept to the letter.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

# Seconds. A memory hit takes microseconds, a Redis hit under a millisecond; a call takes up to
# 60 s, and a batch of the backfill waits for calls.
_CACHE_SECONDS: Final = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)
_CALL_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 60)
# A call within its limits waits for one answer of Redis, any other one until the minute is over.
_WAIT_SECONDS: Final = (0.001, 0.005, 0.05, 0.5, 1, 2.5, 5, 10, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `name` is the name a query uses, `_total` of a counter included."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> frozenset[str]:
        """The sample names that a scrape shows and PromQL must use."""
        if self.kind == "histogram":
            return frozenset(f"{self.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
        return frozenset({self.name})


_counter: Final = partial(Metric, "counter")
_gauge: Final = partial(Metric, "gauge")
_histogram: Final = partial(Metric, "histogram")


SIDECAR: Final = (
    _gauge(
        "aos_embedding_daily_calls",
        "Calls of the whole policy since 00:00 UTC, alike in every pod: take max, never sum.",
    ),
    _gauge(
        "aos_embedding_daily_quota", "Calls the policy allows per UTC day; +Inf when unlimited."
    ),
    _counter(
        "aos_embedding_quota_exhausted_total",
        "Requests refused because the day's quota was used up.",
    ),
    _gauge(
        "aos_embedding_quota_limit",
        "Limits of the whole policy in a UTC day or month, a cost in US dollars: take max.",
        labels=("period", "unit"),
    ),
    _gauge(
        "aos_embedding_quota_used",
        "The used part of each limit of the whole policy, alike in every pod: take max, never sum.",
        labels=("period", "unit"),
    ),
    _counter(
        "aos_embedding_quota_observed_total",
        "Calls beyond a limit that is only observed.",
        labels=("period", "unit"),
    ),
    _counter(
        "aos_embedding_quota_observed_total",
        "Calls beyond a limit that is only observed.",
        labels=("period", "unit"),
    ),
    _counter(
        "aos_embedding_tokens_total", "Tokens the provider billed.", labels=("provider", "model")
    ),
    _counter(
        "aos_embedding_api_calls_total",
        "HTTP requests sent to a provider, by outcome.",
        labels=("provider", "model", "outcome"),
    ),
    _histogram(
        "aos_embedding_api_latency_seconds",
        "Seconds from sending a request to a provider to its whole answer.",
        labels=("provider", "model"),
        buckets=_CALL_SECONDS,
    ),
    _counter(
        "aos_embedding_errors_total",
        "Requests and calls that failed, by type; provider is empty where none was asked.",
        labels=("type", "provider"),
    ),
    _counter("aos_embedding_cache_hits_total", "Items answered from the cache.", labels=("layer",)),
    _counter("aos_embedding_cache_misses_total", "Items found in no layer of the cache."),
    _counter(
        "aos_embedding_tokens_saved_total",
        "Tokens that answers needed less than without the cache.",
        labels=("model",),
    ),
    _histogram(
        "aos_embedding_cache_latency_seconds",
        "Seconds to look up all items of a request in one layer.",
        labels=("layer",),
        buckets=_CACHE_SECONDS,
    ),
    _gauge("aos_embedding_cache_memory_bytes", "Bytes the in-memory layer holds."),
    _counter(
        "aos_embedding_failovers_total",
        "Answers a provider other than the first choice gave.",
        labels=("provider",),
    ),
    _gauge(
        "aos_embedding_policy_info",
        "1, labelled with the fingerprint of the document in force, empty where none is.",
        labels=("document",),
    ),
    _gauge(
        "aos_embedding_policy_rejected",
        "1 while the newest policy document cannot be used, so an older one is in force.",
    ),
    _gauge(
        "aos_embedding_key_refused",
        "1 while the provider of this name in the policy refuses the newest key.",
        labels=("provider",),
    ),
    _gauge(
        "aos_embedding_breaker_open",
        "1 while the provider of this name in the policy is not asked, as it failed of late.",
        labels=("provider",),
    ),
    _gauge(
        "aos_embedding_quota_reserved",
        "Calls of the whole policy that pods hold as leases, living or dead.",
    ),
    _counter(
        "aos_embedding_requests_total",
        "Requests for embeddings that were answered, by HTTP status.",
        labels=("code",),
    ),
    _histogram(
        "aos_embedding_rate_wait_seconds",
        "Seconds that calls waited for the limits per minute of the provider of this name.",
        labels=("provider",),
        buckets=_WAIT_SECONDS,
    ),
    _counter(
        "aos_embedding_rate_refused_total",
        "Calls not made because of the limits per minute of the provider of this name.",
        labels=("provider",),
    ),
    _gauge(
        "aos_embedding_redis_up",
        "1 while the last use of this Redis succeeded; store is cache or quota.",
        labels=("store",),
    ),
)

OPERATOR: Final = (
    _counter(
        "embedding_operator_reconciles_total",
        "Reconciles of a policy, by result.",
        labels=("result",),
    ),
    _histogram(
        "embedding_operator_reconcile_seconds", "Seconds one reconcile took.", buckets=_CALL_SECONDS
    ),
    _gauge(
        "embedding_operator_oldest_reconcile_seconds",
        "For how long the oldest reconcile that has not ended has been going on.",
    ),
    _counter(
        "embedding_operator_sidecar_requests_total",
        "Sidecars asked what they obey, by result: ok, or the reason of the condition.",
        labels=("result",),
    ),
    _counter(
        "embedding_operator_injections_total",
        "Pods the webhook was asked about, by result and reason.",
        labels=("result", "reason"),
    ),
    _counter(
        "embedding_operator_drift_repaired_total",
        "Owned objects found changed or gone and put back.",
        labels=("kind",),
    ),
    _counter(
        "embedding_operator_vault_requests_total",
        "Requests to Vault, by outcome.",
        labels=("outcome",),
    ),
    _counter(
        "embedding_operator_rollouts_total",
        "Workloads restarted as a Secret that they read has changed.",
        labels=("kind",),
    ),
    _counter(
        "embedding_operator_skipped_objects_total",
        "Objects seen while listing or watching that are too large to be held, by kind.",
        labels=("kind",),
    ),
    _counter(
        "embedding_operator_monitoring_requests_total",
        "Requests to Prometheus and Alertmanager, by kind of server and outcome.",
        labels=("server", "outcome"),
    ),
    _gauge("embedding_operator_queue_depth", "Policies waiting for a reconcile."),
    _gauge(
        "embedding_operator_lease_held",
        "1 in the replica that reconciles; the others answer the webhook only.",
    ),
    _gauge(
        "embedding_operator_watch_up",
        "1 while changes of this kind of object are heard of.",
        labels=("kind",),
    ),
    _gauge(
        "embedding_operator_watch_silent_seconds",
        "Seconds since the watch of this kind brought anything; a bookmark comes every minute.",
        labels=("kind",),
    ),
    _gauge(
        "embedding_operator_pods_uncovered",
        "Pods that a policy selects and that lack its sidecar; of 2000 policies at most.",
        labels=("namespace", "policy"),
    ),
    _gauge(
        "embedding_operator_model_retires_timestamp_seconds",
        "When the vendor retires a model of a policy, in Unix time; of 2000 policies at most.",
        labels=("namespace", "policy", "provider", "model"),
    ),
)

VECTORS: Final = (
    _counter(
        "aos_vector_fallback_total",
        "Searches answered without vectors, by reason.",
        labels=("reason",),
    ),
    _gauge(
        "aos_vector_index_size",
        "Rows that have a vector in the index; NaN until the pod has counted.",
    ),
    _gauge(
        "aos_vector_index_null_count",
        "Rows that wait for a vector, which parked ones do not; NaN until counted.",
    ),
    _histogram(
        "aos_vector_query_latency_seconds", "Seconds one vector search took.", buckets=_CALL_SECONDS
    ),
    _counter("aos_memory_backfill_progress_total", "Rows that the backfill has given a vector."),
    _histogram(
        "aos_memory_backfill_batch_duration_seconds",
        "Seconds one batch of the backfill took.",
        buckets=_CALL_SECONDS,
    ),
)
"""Search and backfill: the PodMonitor gives their series the label `index`."""

CATALOGUE: Final = SIDECAR + OPERATOR + VECTORS
