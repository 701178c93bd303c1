"""The dashboard "Embedding cost": what a policy spends, and what search and backfill do."""

from typing import Final

from dashboards import queries
from dashboards.panels import Dashboard, Panel, Query, Variable
from embedding_contract import prices

POLICY_VARIABLES: Final = (
    Variable(
        name="namespace",
        label="Namespace",
        query="label_values(aos_embedding_daily_quota, namespace)",
    ),
    Variable(
        name="policy",
        label="Policy",
        query='label_values(aos_embedding_daily_quota{namespace=~"$namespace"}, policy)',
    ),
)

_CALLS: Final = f"max {queries.BY_POLICY} ({queries.selected('aos_embedding_daily_calls')})"
_QUOTA: Final = f"max {queries.BY_POLICY} ({queries.selected('aos_embedding_daily_quota')})"


def _one(expr: str, legend: str = queries.POLICY_LEGEND) -> tuple[Query, ...]:
    return (Query(expr=expr, legend=legend),)


def _quantiles(histogram: str) -> tuple[Query, ...]:
    return tuple(
        Query(expr=queries.quantile(share, histogram), legend=f"p{share * 100:.0f}")
        for share in (0.5, 0.95, 0.99)
    )


SEARCH_AND_BACKFILL: Final = (
    Panel(
        title="Vector Fallbacks",
        description=(
            "Searches that were answered without vectors, by reason. No data if no index is"
            " searched."
        ),
        unit="reqps",
        queries=_one(
            f"sum by (reason) ({queries.rate('aos_vector_fallback_total')})", "{{reason}}"
        ),
    ),
    Panel(
        title="Vectors in Index",
        description="Rows that have a vector, of all indexes of the policy.",
        unit="short",
        queries=_one(queries.of_indexes("aos_vector_index_size")),
    ),
    Panel(
        title="Rows Without Embeddings",
        description=(
            "Rows that wait for a vector; falls to 0 during the backfill. Parked rows do not wait."
        ),
        unit="short",
        queries=_one(queries.of_indexes("aos_vector_index_null_count")),
    ),
    Panel(
        title="Vector Query Latency",
        description="Seconds that half, 95 % and 99 % of vector searches took at most.",
        unit="s",
        queries=_quantiles("aos_vector_query_latency_seconds"),
    ),
    Panel(
        title="Backfill Progress",
        description=(
            "Rows that running workers have given a vector since they started; 0 while none runs."
        ),
        unit="short",
        queries=_one(
            f"sum {queries.BY_POLICY} ({queries.selected('aos_memory_backfill_progress_total')})"
        ),
    ),
    Panel(
        title="Backfill Batch Duration",
        description="Seconds that half, 95 % and 99 % of the backfill's batches took at most.",
        unit="s",
        queries=_quantiles("aos_memory_backfill_batch_duration_seconds"),
    ),
)
"""The panels of search and backfill, whose metrics pods of indexes expose."""

DASHBOARD: Final = Dashboard(
    uid="embedding-cost",
    title="Embedding cost",
    description="Spending of each EmbeddingPolicy: calls, quota, tokens, money, errors.",
    variables=(
        *POLICY_VARIABLES,
        Variable(
            name="price",
            label="USD per million tokens",
            default="0",
            description=(
                f"0 means the built-in list prices of {prices.AS_OF}; a price here replaces them"
                " for every model."
            ),
        ),
    ),
    panels=(
        Panel(
            title="Quota Remaining",
            description=(
                "Calls left until 00:00 UTC: the policy's own limit less its calls of today. No"
                " value if the policy is unlimited."
            ),
            unit="short",
            form="stat",
            span=6,
            queries=_one(f"clamp_min(({_QUOTA} < Inf) - {_CALLS}, 0)"),
            thresholds=((1, "orange"), (100, "green")),
            no_value="unlimited, or no data",
        ),
        Panel(
            title="Daily Embedding Calls",
            description=(
                "Calls of the whole policy since 00:00 UTC. Every pod reports the same number, so"
                " the panel shows the greatest and adds nothing up."
            ),
            unit="short",
            form="stat",
            span=6,
            queries=_one(_CALLS),
        ),
        Panel(
            title="Quota Exceeded (24h)",
            description="Requests of the last 24 hours that got 429 because the quota was used up.",
            unit="short",
            form="stat",
            span=6,
            decimals=0,
            queries=_one(
                f"sum {queries.BY_POLICY}"
                f" (increase({queries.selected('aos_embedding_quota_exhausted_total')}[24h]))"
            ),
        ),
        Panel(
            title="Est. Embedding Cost",
            description=(
                "Billed tokens of the last 24 hours at the price given above, else at the built-in"
                f" list prices of {prices.AS_OF}. A model of unknown price is not shown: give its"
                " price above."
            ),
            unit="currencyUSD",
            form="stat",
            span=6,
            queries=_one(queries.cost("24h"), "{{policy}} {{model}}"),
            no_value="no known price, or no data",
        ),
        Panel(
            title="API Call Rate",
            description="HTTP requests to providers a second, by provider and outcome.",
            unit="reqps",
            queries=_one(
                f"sum by (provider, outcome) ({queries.rate('aos_embedding_api_calls_total')})",
                "{{provider}} {{outcome}}",
            ),
        ),
        Panel(
            title="API Latency",
            description="Seconds that half, 95 % and 99 % of calls to providers took at most.",
            unit="s",
            queries=_quantiles("aos_embedding_api_latency_seconds"),
        ),
        Panel(
            title="Embedding Errors",
            description="Requests and calls that failed, a second, by type.",
            unit="cps",
            queries=_one(
                f"sum by (type) ({queries.rate('aos_embedding_errors_total')})", "{{type}}"
            ),
        ),
        *SEARCH_AND_BACKFILL,
    ),
)
