"""The metric catalogue: every metric of both programs, as values.

The programs build their collectors from it, alerts and dashboards are checked against it and
docs/metrics.md is written from it. The `aos_embedding_*` names are the user's, kept to the letter.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

# Seconds. A memory hit takes microseconds, a Redis hit under a millisecond, a provider up to 60 s.
_CACHE_SECONDS: Final = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)
_CALL_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric family. `name` is the name a query uses, `_total` of a counter included."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> frozenset[str]:
        """The sample names a scrape shows, which is what PromQL must use."""
        if self.kind == "histogram":
            return frozenset(f"{self.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
        return frozenset({self.name})


SIDECAR: Final = (
    Metric(
        name="aos_embedding_daily_calls",
        kind="gauge",
        help="Calls of the whole policy since 00:00 UTC, alike in every pod: take max, never sum.",
    ),
    Metric(
        name="aos_embedding_daily_quota",
        kind="gauge",
        help="Calls the policy allows per UTC day; +Inf when unlimited.",
    ),
    Metric(
        name="aos_embedding_quota_exhausted_total",
        kind="counter",
        help="Requests refused because the day's quota was used up.",
    ),
    Metric(
        name="aos_embedding_tokens_total",
        kind="counter",
        help="Tokens the provider billed.",
        labels=("provider", "model"),
    ),
    Metric(
        name="aos_embedding_api_calls_total",
        kind="counter",
        help="HTTP requests sent to a provider, by outcome.",
        labels=("provider", "model", "outcome"),
    ),
    Metric(
        name="aos_embedding_api_latency_seconds",
        kind="histogram",
        help="Seconds from sending a request to a provider to its whole answer.",
        labels=("provider", "model"),
        buckets=_CALL_SECONDS,
    ),
    Metric(
        name="aos_embedding_errors_total",
        kind="counter",
        help="Requests and calls that failed, by type; provider is empty where none was asked.",
        labels=("type", "provider"),
    ),
    Metric(
        name="aos_embedding_cache_hits_total",
        kind="counter",
        help="Items answered from the cache.",
        labels=("layer",),
    ),
    Metric(
        name="aos_embedding_cache_misses_total",
        kind="counter",
        help="Items found in no layer of the cache.",
    ),
    Metric(
        name="aos_embedding_tokens_saved_total",
        kind="counter",
        help="Tokens that answers needed less than without the cache.",
        labels=("model",),
    ),
    Metric(
        name="aos_embedding_cache_latency_seconds",
        kind="histogram",
        help="Seconds to look up all items of a request in one layer.",
        labels=("layer",),
        buckets=_CACHE_SECONDS,
    ),
    Metric(
        name="aos_embedding_cache_memory_bytes",
        kind="gauge",
        help="Bytes the in-memory layer holds.",
    ),
    Metric(
        name="aos_embedding_failovers_total",
        kind="counter",
        help="Answers a provider other than the first choice gave.",
        labels=("provider",),
    ),
    Metric(
        name="aos_embedding_policy_info",
        kind="gauge",
        help="1, labelled with the fingerprint of the document in force, empty where none is.",
        labels=("document",),
    ),
    Metric(
        name="aos_embedding_policy_rejected",
        kind="gauge",
        help="1 while the newest policy document cannot be used, so an older one is in force.",
    ),
    Metric(
        name="aos_embedding_key_refused",
        kind="gauge",
        help="1 while the provider of this name in the policy refuses the newest key.",
        labels=("provider",),
    ),
    Metric(
        name="aos_embedding_breaker_open",
        kind="gauge",
        help="1 while the provider of this name in the policy is not asked, as it failed of late.",
        labels=("provider",),
    ),
    Metric(
        name="aos_embedding_quota_reserved",
        kind="gauge",
        help="Calls of the whole policy that pods hold as leases, living or dead.",
    ),
    Metric(
        name="aos_embedding_requests_total",
        kind="counter",
        help="Requests for embeddings that were answered, by HTTP status.",
        labels=("code",),
    ),
    Metric(
        name="aos_embedding_redis_up",
        kind="gauge",
        help="1 while the last use of this Redis succeeded; store is cache or quota.",
        labels=("store",),
    ),
)

OPERATOR: Final = (
    Metric(
        name="embedding_operator_reconciles_total",
        kind="counter",
        help="Reconciles of a policy, by result.",
        labels=("result",),
    ),
    Metric(
        name="embedding_operator_reconcile_seconds",
        kind="histogram",
        help="Seconds one reconcile took.",
        buckets=_CALL_SECONDS,
    ),
    Metric(
        name="embedding_operator_oldest_reconcile_seconds",
        kind="gauge",
        help="For how long the oldest reconcile that has not ended has been going on.",
    ),
    Metric(
        name="embedding_operator_sidecar_requests_total",
        kind="counter",
        help="Sidecars asked what they obey, by result: ok, or the reason of the condition.",
        labels=("result",),
    ),
    Metric(
        name="embedding_operator_injections_total",
        kind="counter",
        help="Pods the webhook was asked about, by result and reason.",
        labels=("result", "reason"),
    ),
    Metric(
        name="embedding_operator_drift_repaired_total",
        kind="counter",
        help="Owned objects found changed or gone and put back.",
        labels=("kind",),
    ),
    Metric(
        name="embedding_operator_vault_requests_total",
        kind="counter",
        help="Requests to Vault, by outcome.",
        labels=("outcome",),
    ),
    Metric(
        name="embedding_operator_rollouts_total",
        kind="counter",
        help="Workloads restarted as a Secret that they read has changed.",
        labels=("kind",),
    ),
    Metric(
        name="embedding_operator_skipped_objects_total",
        kind="counter",
        help="Objects seen while listing or watching that are too large to be held, by kind.",
        labels=("kind",),
    ),
    Metric(
        name="embedding_operator_monitoring_requests_total",
        kind="counter",
        help="Requests to Prometheus and Alertmanager, by kind of server and outcome.",
        labels=("server", "outcome"),
    ),
    Metric(
        name="embedding_operator_queue_depth",
        kind="gauge",
        help="Policies waiting for a reconcile.",
    ),
    Metric(
        name="embedding_operator_watch_up",
        kind="gauge",
        help="1 while changes of this kind of object are heard of.",
        labels=("kind",),
    ),
    Metric(
        name="embedding_operator_pods_uncovered",
        kind="gauge",
        help="Pods that a policy selects and that lack its sidecar; of 2000 policies at most.",
        labels=("namespace", "policy"),
    ),
)

# Seconds. A batch of the backfill waits for a provider; a search asks PostgreSQL alone.
VECTORS: Final = (
    Metric(
        name="aos_vector_fallback_total",
        kind="counter",
        help="Searches answered without vectors, by reason.",
        labels=("reason",),
    ),
    Metric(
        name="aos_vector_index_size",
        kind="gauge",
        help="Rows that have a vector in the index; NaN until the pod has counted.",
    ),
    Metric(
        name="aos_vector_index_null_count",
        kind="gauge",
        help="Rows that wait for a vector, which parked ones do not; NaN until counted.",
    ),
    Metric(
        name="aos_vector_query_latency_seconds",
        kind="histogram",
        help="Seconds one vector search took.",
        buckets=_CALL_SECONDS,
    ),
    Metric(
        name="aos_memory_backfill_progress_total",
        kind="counter",
        help="Rows that the backfill has given a vector.",
    ),
    Metric(
        name="aos_memory_backfill_batch_duration_seconds",
        kind="histogram",
        help="Seconds one batch of the backfill took.",
        buckets=_CALL_SECONDS,
    ),
)
"""Search and backfill; of pods of an index, whose series the PodMonitor gives the label index."""

CATALOGUE: Final = SIDECAR + OPERATOR + VECTORS
