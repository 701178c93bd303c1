"""The dashboard "Embedding operations": coverage, cache, providers, leases, operator."""

from typing import Final

from dashboards import queries
from dashboards.cost import POLICY_VARIABLES
from dashboards.panels import Dashboard, Panel, Query

_LOOKED_UP: Final = (
    f"(sum ({queries.rate('aos_embedding_cache_hits_total')})"
    f" + sum ({queries.rate('aos_embedding_cache_misses_total')}))"
)


def _one(expr: str, legend: str = queries.POLICY_LEGEND) -> tuple[Query, ...]:
    return (Query(expr=expr, legend=legend),)


_REJECTED: Final = f"sum {queries.BY_POLICY} ({queries.selected('aos_embedding_policy_rejected')})"
_WITHOUT_DOCUMENT: Final = queries.selected("aos_embedding_policy_info", 'document=""')

_SIDECARS: Final = (
    Panel(
        title="Sidecars Scraped",
        description="Sidecars of each policy that Prometheus scrapes.",
        unit="short",
        form="stat",
        span=6,
        queries=_one(
            f"count {queries.BY_POLICY} ({queries.selected('aos_embedding_policy_rejected')})"
        ),
    ),
    Panel(
        title="Sidecars Not in Force",
        description=(
            "Sidecars without a document, or with an older one because they refuse the newest. The"
            " alert EmbeddingConfigNotInForce names the pod."
        ),
        unit="short",
        form="stat",
        span=6,
        queries=_one(
            f"{_REJECTED} + (count {queries.BY_POLICY} ({_WITHOUT_DOCUMENT}) or {_REJECTED} * 0)"
        ),
        thresholds=((0, "green"), (1, "red")),
    ),
    Panel(
        title="Documents in Force",
        description="Different policy documents that sidecars of one policy obey; 1 is normal.",
        unit="short",
        form="stat",
        span=6,
        queries=_one(
            f"count {queries.BY_POLICY} (count by (namespace, policy, document)"
            f" ({queries.selected('aos_embedding_policy_info')}))"
        ),
    ),
    Panel(
        title="Keys Refused",
        description="Sidecars in which a provider refuses the newest key, by provider.",
        unit="short",
        form="stat",
        span=6,
        queries=_one(
            f"sum by (provider) ({queries.selected('aos_embedding_key_refused')})", "{{provider}}"
        ),
        thresholds=((0, "green"), (1, "red")),
    ),
    Panel(
        title="Pods Uncovered",
        description=(
            "Pods that a policy selects and that lack its sidecar, as the operator counts them. The"
            " policy's status names them."
        ),
        unit="short",
        queries=_one(
            f"max {queries.BY_POLICY} ({queries.selected('embedding_operator_pods_uncovered')})"
        ),
    ),
    Panel(
        title="Pods Injected or Skipped",
        description="Admission reviews of pods a second, by result and reason.",
        unit="cps",
        queries=_one(
            "sum by (result, reason) (rate(embedding_operator_injections_total[5m]))",
            "{{result}} {{reason}}",
        ),
    ),
)

_CACHE: Final = (
    Panel(
        title="Requests by Status",
        description="Requests of applications that sidecars answered, a second, by HTTP status.",
        unit="reqps",
        queries=_one(f"sum by (code) ({queries.rate('aos_embedding_requests_total')})", "{{code}}"),
    ),
    Panel(
        title="Hit Rate by Layer",
        description="Share of texts that were answered from the sidecar's memory, and from Redis.",
        unit="percentunit",
        queries=_one(
            f"sum by (layer) ({queries.rate('aos_embedding_cache_hits_total')})"
            f" / on () group_left () {_LOOKED_UP}",
            "{{layer}}",
        ),
    ),
    Panel(
        title="Cache Lookup Latency",
        description="Seconds that 99 % of lookups in a layer took at most.",
        unit="s",
        queries=_one(
            queries.quantile(0.99, "aos_embedding_cache_latency_seconds", "layer"), "{{layer}} p99"
        ),
    ),
    Panel(
        title="Cache Memory",
        description="Bytes of vectors that sidecars hold in memory.",
        unit="bytes",
        queries=_one(
            f"sum {queries.BY_POLICY} ({queries.selected('aos_embedding_cache_memory_bytes')})"
        ),
    ),
    Panel(
        title="Tokens Saved",
        description="Tokens saved by the cache a second.",
        unit="cps",
        queries=_one(
            f"sum by (model) ({queries.rate('aos_embedding_tokens_saved_total')})", "{{model}}"
        ),
    ),
)

_PROVIDERS: Final = (
    Panel(
        title="Redis Up",
        description="Share of sidecars whose last use of Redis succeeded, for cache and quota.",
        unit="percentunit",
        queries=_one(f"avg by (store) ({queries.selected('aos_embedding_redis_up')})", "{{store}}"),
    ),
    Panel(
        title="Open Breakers",
        description="Sidecars that skip a provider for now because it failed recently.",
        unit="short",
        queries=_one(
            f"sum by (provider) ({queries.selected('aos_embedding_breaker_open')})", "{{provider}}"
        ),
    ),
    Panel(
        title="Failovers",
        description="Answers a second that came from another provider than the first choice.",
        unit="cps",
        queries=_one(
            f"sum by (provider) ({queries.rate('aos_embedding_failovers_total')})", "{{provider}}"
        ),
    ),
    Panel(
        title="Quota Leases",
        description=("Calls that pods hold as leases and have not made, or lost when they died."),
        unit="short",
        queries=_one(
            f"max {queries.BY_POLICY} ({queries.selected('aos_embedding_quota_reserved')})"
        ),
    ),
)

_LIMITS: Final = (
    Panel(
        title="Limits Used",
        description="Used share of each limit of the day and of the month, in UTC.",
        unit="percentunit",
        queries=_one(f"{queries.used()} / ({queries.limit()} > 0)", queries.LIMIT_LEGEND),
    ),
    Panel(
        title="Money Used",
        description="USD used of each limit in money, by the prices that the policy counts by.",
        unit="currencyUSD",
        queries=_one(queries.used('unit="cost"'), queries.LIMIT_LEGEND),
    ),
    Panel(
        title="Limits Last",
        description=(
            "Seconds until a limit is used up at the pace of the last hour; none while nothing is"
            " used. The day or month may end before."
        ),
        unit="s",
        queries=_one(
            f"({queries.limit()} - {queries.used()}) / (max {queries.EACH_LIMIT}"
            f" (deriv({queries.selected('aos_embedding_quota_used')}[1h])) > 0)",
            queries.LIMIT_LEGEND,
        ),
    ),
    Panel(
        title="Calls Beyond a Limit",
        description="Calls a second that mode Observe let pass, which Enforce would have refused.",
        unit="cps",
        queries=_one(
            "sum by (namespace, policy, period, unit)"
            f" ({queries.rate('aos_embedding_quota_observed_total')})",
            queries.LIMIT_LEGEND,
        ),
    ),
    Panel(
        title="Waits for a Rate",
        description=(
            "Seconds that half, and 99 %, of calls waited at most for the rate per minute of their"
            " provider."
        ),
        unit="s",
        queries=tuple(
            Query(
                expr=queries.quantile(share, "aos_embedding_rate_wait_seconds", "provider"),
                legend=f"{{{{provider}}}} p{share * 100:.0f}",
            )
            for share in (0.5, 0.99)
        ),
    ),
    Panel(
        title="Refused by a Rate",
        description="Calls a second for which the rate per minute left no time.",
        unit="cps",
        queries=_one(
            f"sum by (provider) ({queries.rate('aos_embedding_rate_refused_total')})",
            "{{provider}}",
        ),
    ),
    Panel(
        title="Models Retire",
        description="Seconds until a vendor retires a model of a policy; below 0 once it has.",
        unit="s",
        form="stat",
        queries=_one(
            "min by (namespace, policy, provider, model) ("
            f"{queries.selected('embedding_operator_model_retires_timestamp_seconds')}) - time()",
            "{{policy}} {{model}}",
        ),
    ),
)

_OPERATOR: Final = (
    Panel(
        title="Reconciles",
        description="Reconciles a second, by result. The operator tries a failed one again.",
        unit="cps",
        queries=_one(
            "sum by (result) (rate(embedding_operator_reconciles_total[5m]))", "{{result}}"
        ),
    ),
    Panel(
        title="Reconcile Duration",
        description="Seconds that half, and 99 %, of reconciles took at most.",
        unit="s",
        queries=tuple(
            Query(
                expr=(
                    f"histogram_quantile({share}, sum by (le)"
                    " (rate(embedding_operator_reconcile_seconds_bucket[5m])))"
                ),
                legend=f"p{share * 100:.0f}",
            )
            for share in (0.5, 0.99)
        ),
    ),
    Panel(
        title="Policies Waiting",
        description="Policies in the operator's queue. It should return to 0.",
        unit="short",
        queries=_one("max (embedding_operator_queue_depth)", "waiting"),
    ),
    Panel(
        title="Oldest Reconcile",
        description="Age of the oldest running reconcile.",
        unit="s",
        queries=_one("max (embedding_operator_oldest_reconcile_seconds)", "oldest"),
    ),
    Panel(
        title="Watches",
        description="1 while the operator watches this kind of object.",
        unit="short",
        queries=_one("min by (kind) (embedding_operator_watch_up)", "{{kind}}"),
    ),
    Panel(
        title="Silent Watches",
        description="Seconds since the last line of each watch; a bookmark comes every minute.",
        unit="s",
        queries=_one("max by (kind) (embedding_operator_watch_silent_seconds)", "{{kind}}"),
    ),
    Panel(
        title="Definitions Behind",
        description="Fields that a definition in the cluster lacks: it is older than the operator.",
        unit="short",
        queries=_one(
            "max by (definition) (embedding_operator_definition_missing_fields)", "{{definition}}"
        ),
    ),
    Panel(
        title="Replicas That Hold the Lease",
        description="1, but for the seconds in which another replica takes over.",
        unit="short",
        queries=_one("sum (embedding_operator_lease_held)", "holders"),
    ),
    Panel(
        title="Objects Put Back",
        description="Owned objects a second that somebody had changed or deleted, by kind.",
        unit="cps",
        queries=_one(
            "sum by (kind) (rate(embedding_operator_drift_repaired_total[5m]))", "{{kind}}"
        ),
    ),
    Panel(
        title="Vault Requests",
        description="Requests to Vault a second, by outcome.",
        unit="reqps",
        queries=_one(
            "sum by (outcome) (rate(embedding_operator_vault_requests_total[5m]))", "{{outcome}}"
        ),
    ),
    Panel(
        title="Sidecars Asked",
        description="Requests to sidecars a second, by outcome.",
        unit="reqps",
        queries=_one(
            "sum by (result) (rate(embedding_operator_sidecar_requests_total[5m]))", "{{result}}"
        ),
    ),
    Panel(
        title="Monitoring Requests",
        description="Requests to Prometheus and Alertmanager a second, by server and outcome.",
        unit="reqps",
        queries=_one(
            "sum by (server, outcome) (rate(embedding_operator_monitoring_requests_total[5m]))",
            "{{server}} {{outcome}}",
        ),
    ),
    Panel(
        title="Objects Too Large",
        description="Objects a second that are ignored because they are too large, by kind.",
        unit="cps",
        queries=_one(
            "sum by (kind) (rate(embedding_operator_skipped_objects_total[5m]))", "{{kind}}"
        ),
    ),
    Panel(
        title="Workloads Restarted",
        description="Restarts a second because of a changed Secret, by kind.",
        unit="cps",
        queries=_one("sum by (kind) (rate(embedding_operator_rollouts_total[5m]))", "{{kind}}"),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="embedding-operations",
    title="Embedding operations",
    description="State of policies, cache, providers and operator.",
    variables=POLICY_VARIABLES,
    panels=(*_SIDECARS, *_CACHE, *_PROVIDERS, *_LIMITS, *_OPERATOR),
)
