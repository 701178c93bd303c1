"""The built-in alerts, as values: those of each policy, and those about the operator.

PrometheusRules, rule files, docs/alerts.md and the chart's rules are made from these two tables;
the resource's bounds and docs/runbooks are checked against them. An expression of BUILT_IN holds
placeholders: SELECTOR, THRESHOLD, WINDOW and COST.
"""

from dataclasses import dataclass
from typing import Final, Literal

from embedding_contract import quota_alerts

Severity = Literal["critical", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "info")
"""Every alert has one of these, so routing may count on them."""

PREFIX: Final = "Embedding"
"""The prefix of the name of every built-in alert, and of no other."""
OUR_LABELS: Final = ("alertname", "namespace", "policy")
"""The labels that tell alerts of different policies apart; only the operator sets them."""
MAX_PER_POLICY: Final = 16

SELECTOR: Final = "@selector@"
"""The matchers that pick one policy's series."""
THRESHOLD: Final = "@threshold@"
"""The number of the policy, or the default."""
WINDOW: Final = "@window@"
"""The range that rates are taken over: `for`, within WINDOW_SECONDS."""
COST: Final = "@cost@"
"""The cost of the tokens of the last 24 hours, by namespace and policy."""
WINDOW_SECONDS: Final = (60, 300)
"""At least four scrapes at Prometheus's usual interval of 15 s; at most 5 minutes."""

RUNBOOKS: Final = "https://github.com/agenticverz/embedding-operator/blob/main/docs/runbooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A number that a policy may set: whole, in `unit`, from `low` to `high`.

    `default` None: the alert is off until a policy sets one. In the unit `USD` it is a decimal
    string with at most 9 digits before the point, above 0.
    """

    unit: Literal["percent", "seconds", "days", "USD"] = "percent"
    meaning: str
    default: int | None
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `key` is its name in `spec.alerts.rules`; `for_seconds` how long it must hold.

    `fault` is the cause that a test brings about. `series` says which program's series it reads.
    """

    key: str
    expr: str
    for_seconds: int
    severity: Severity
    summary: str
    description: str
    fault: str
    threshold: Threshold | None = None
    series: Literal["sidecar", "operator", "vectors"] = "sidecar"

    @property
    def name(self) -> str:
        """The alert's name, which is its runbook's file name too."""
        return PREFIX + self.key[0].upper() + self.key[1:]

    @property
    def runbook_url(self) -> str:
        """The address of the alert's runbook."""
        return f"{RUNBOOKS}/{self.name}.md"


_BY: Final = "by (namespace, policy)"
_WHO: Final = "{{ $labels.namespace }}/{{ $labels.policy }}"


def _hit_rate(window: str) -> str:
    hits = f"sum {_BY} (rate(aos_embedding_cache_hits_total{{@selector@}}[{window}]))"
    misses = f"sum {_BY} (rate(aos_embedding_cache_misses_total{{@selector@}}[{window}]))"
    return f"{hits} / ({hits} + {misses})"


BUILT_IN: Final = (
    Alert(
        key="quotaNearlyExhausted",
        expr=quota_alerts.NEARLY_EXHAUSTED,
        for_seconds=300,
        severity="info",
        threshold=Threshold(
            meaning="of a limit of the day or month that is used", default=90, low=50, high=99
        ),
        summary=f"{_WHO} has used most of its quota{quota_alerts.WHICH}.",
        description=(
            "Once it is used up, calls are refused with 429 until the day or month ends in UTC,"
            " unless spec.quota.mode is Observe."
        ),
        fault="applications make most of the calls that the day allows",
    ),
    Alert(
        key="quotaExhausted",
        expr=quota_alerts.EXHAUSTED,
        for_seconds=60,
        severity="warning",
        summary=f"{_WHO} has used up its quota{quota_alerts.WHICH}.",
        description=(
            "Calls that are not in the cache are refused with 429 until the day or month ends in"
            " UTC, unless spec.quota.mode is Observe."
        ),
        fault="applications make all the calls that the day allows",
    ),
    Alert(
        key="quotaWillNotLast",
        expr=quota_alerts.WILL_NOT_LAST,
        for_seconds=900,
        severity="info",
        threshold=Threshold(
            meaning="of a limit that the present pace reaches by the end of its day or month",
            default=100,
            low=100,
            high=1000,
        ),
        summary=f"{_WHO} will use up its quota{quota_alerts.WHICH} before the time ends.",
        description=(
            "At the pace of the last half hour a limit of the day is used up before 00:00 UTC, or"
            " at that of the last day one of the month before the month ends."
        ),
        fault="applications call faster than the day's quota lasts",
    ),
    Alert(
        key="costHigh",
        expr=f"{COST} > @threshold@",
        for_seconds=300,
        severity="warning",
        threshold=Threshold(
            unit="USD", meaning="billed in the last 24 hours", default=None, low=0, high=10**9
        ),
        summary=f"{_WHO} costs more in a day than its threshold.",
        description=(
            "Tokens billed in the last 24 hours, at the prices of the policy or else the built-in"
            " ones; a provider of unknown price is left out."
        ),
        fault="applications buy more tokens than the threshold pays for",
    ),
    Alert(
        key="providerFailing",
        # A request that the provider refuses, or whose caller leaves, is no fault of the provider.
        expr=(
            "sum by (namespace, policy, provider) (rate(aos_embedding_api_calls_total"
            '{@selector@, outcome!~"ok|rejected|cancelled"}[@window@]))'
            " > @threshold@ / 100 * sum by (namespace, policy, provider)"
            " (rate(aos_embedding_api_calls_total{@selector@}[@window@]))"
        ),
        for_seconds=300,
        severity="warning",
        threshold=Threshold(
            meaning="of the calls to one provider that fail", default=50, low=1, high=99
        ),
        summary=f"Too many calls of {_WHO} to {{{{ $labels.provider }}}} fail.",
        description="A backup answers where the policy allows one; else applications get errors.",
        fault="a provider answers 500",
    ),
    Alert(
        key="failedOver",
        expr=(
            "sum by (namespace, policy, provider)"
            " (rate(aos_embedding_failovers_total{@selector@}[@window@])) > 0"
        ),
        for_seconds=1800,
        severity="warning",
        summary=f"{{{{ $labels.provider }}}} answers {_WHO} in place of the first choice.",
        description=(
            "The provider of first choice has not answered for a while; answers of another space"
            " cannot be compared with its vectors."
        ),
        fault="the first provider is down and another one answers",
    ),
    Alert(
        key="keyRefused",
        # Failed calls do not show it: while the previous key still works, none fails.
        expr="max by (namespace, policy, provider) (aos_embedding_key_refused{@selector@}) == 1",
        for_seconds=60,
        severity="warning",
        summary=f"{{{{ $labels.provider }}}} refuses the newest key of {_WHO}.",
        description=(
            "For 10 minutes sidecars that had the previous key go on with it; after that, and in"
            " pods started since, calls to this provider fail."
        ),
        fault="the provider answers 401 to the key",
    ),
    Alert(
        key="errorRateHigh",
        expr=(
            f'sum {_BY} (rate(aos_embedding_requests_total{{@selector@, code=~"5.."}}[@window@]))'
            f" > @threshold@ / 100 * sum {_BY}"
            " (rate(aos_embedding_requests_total{@selector@}[@window@]))"
        ),
        for_seconds=300,
        severity="critical",
        threshold=Threshold(
            meaning="of the applications' requests that are answered 5xx", default=5, low=1, high=99
        ),
        summary=f"Applications of {_WHO} get errors.",
        description="Too many of their requests for embeddings are answered with 5xx.",
        fault="the only provider of a policy is down",
    ),
    Alert(
        key="latencyHigh",
        expr=(
            "histogram_quantile(0.95, sum by (namespace, policy, provider, le)"
            " (rate(aos_embedding_api_latency_seconds_bucket{@selector@}[@window@])))"
            " > @threshold@"
        ),
        for_seconds=600,
        severity="warning",
        threshold=Threshold(
            unit="seconds",
            meaning="that 1 call in 20 to one provider exceeds",
            default=5,
            low=1,
            high=30,
        ),
        summary=f"{{{{ $labels.provider }}}} answers {_WHO} slowly.",
        description="1 call in 20 takes longer than the threshold; answers from the cache do not.",
        fault="a provider takes seconds to answer",
    ),
    Alert(
        key="hitRateCollapsed",
        expr=f"{_hit_rate(WINDOW)} < @threshold@ / 100 * ({_hit_rate('6h')} > 0.1)",
        for_seconds=900,
        severity="info",
        threshold=Threshold(
            meaning="of the hit rate of the last 6 hours that are left", default=50, low=10, high=90
        ),
        summary=f"The cache of {_WHO} answers far less than it did.",
        description="Texts that were in the cache are bought again, or other texts are asked for.",
        fault="applications ask for texts that nobody has asked for before",
    ),
    Alert(
        key="redisAway",
        expr="min by (namespace, policy, store) (aos_embedding_redis_up{@selector@}) == 0",
        for_seconds=120,
        severity="warning",
        summary=f"A sidecar of {_WHO} cannot use the Redis of its {{{{ $labels.store }}}}.",
        description=(
            "Without the cache's Redis every pod buys for itself; without the quota's, new calls"
            " are refused once what was granted is spent, unless onStoreLoss is Allow."
        ),
        fault="Redis is killed",
    ),
    Alert(
        key="configNotInForce",
        expr=(
            "max by (namespace, policy, pod) (aos_embedding_policy_rejected{@selector@}) == 1"
            " or max by (namespace, policy, pod)"
            ' (aos_embedding_policy_info{@selector@, document=""}) == 1'
        ),
        for_seconds=300,
        severity="warning",
        summary=f"Pod {{{{ $labels.pod }}}} does not obey the newest {_WHO}.",
        description="Its sidecar has no document, or refuses the newest and stays with an older.",
        fault="a document that the sidecar cannot read takes the place of the policy's",
    ),
    Alert(
        key="podsUncovered",
        expr=f"max {_BY} (embedding_operator_pods_uncovered{{@selector@}}) > 0",
        for_seconds=600,
        severity="warning",
        series="operator",
        summary=f"Pods that {_WHO} selects lack its sidecar.",
        description="They call providers with their own keys, outside cache and quota, or fail.",
        fault="a pod is created while the operator is away",
    ),
    Alert(
        key="searchFallingBack",
        expr=(
            "sum by (namespace, policy, reason)"
            " (rate(aos_vector_fallback_total{@selector@}[@window@])) > 0"
        ),
        for_seconds=600,
        severity="warning",
        series="vectors",
        summary=f"Searches of {_WHO} are answered without vectors ({{{{ $labels.reason }}}}).",
        description="They are answered by text alone, which finds words and not meanings.",
        fault="the provider is down while an index is searched",
    ),
    Alert(
        key="backfillStalled",
        # Search pods report the waiting rows too, as no worker may run. Each index is judged by
        # itself, as another one's worker gives this one's rows no vectors.
        expr=(
            "max by (namespace, policy, index) (aos_vector_index_null_count{@selector@}) > 0"
            " unless sum by (namespace, policy, index)"
            " (increase(aos_memory_backfill_progress_total{@selector@}[@window@])) > 0"
        ),
        for_seconds=1800,
        severity="warning",
        series="vectors",
        summary=f"Rows of {_WHO}, index {{{{ $labels.index }}}}, wait; no backfill moves.",
        description="Searches by vector do not find these rows.",
        fault="the backfill's worker is stopped while rows lack vectors",
    ),
    Alert(
        key="modelRetires",
        expr=(
            "max by (namespace, policy, provider, model)"
            " (embedding_operator_model_retires_timestamp_seconds{@selector@})"
            " - time() < @threshold@ * 86400"
        ),
        for_seconds=600,
        severity="warning",
        threshold=Threshold(
            unit="days",
            meaning="until the vendor retires a model",
            default=60,
            low=1,
            high=730,
        ),
        series="operator",
        summary=f"The vendor retires {{{{ $labels.model }}}}, which {_WHO} uses.",
        description=(
            "From that day calls may fail. Vectors of another model are of another space, so plan"
            " the change before it."
        ),
        fault="a policy uses a model whose announced end is near",
    ),
)
"""The alerts of a policy."""

OPERATOR: Final = (
    Alert(
        key="operatorWatchEnded",
        expr="min by (kind) (embedding_operator_watch_up) == 0",
        for_seconds=120,
        severity="critical",
        series="operator",
        summary="The embedding operator hears nothing of {{ $labels.kind }}.",
        description="Changes take effect only with the resync, and pods may be missed.",
        fault="the operator's right to watch a kind is taken away, or the API server is away",
    ),
    Alert(
        key="operatorDeaf",
        expr="max by (kind) (embedding_operator_watch_silent_seconds) > 180",
        for_seconds=60,
        severity="critical",
        series="operator",
        summary="The embedding operator's watch of {{ $labels.kind }} has been silent for minutes.",
        description="Changes take effect only with the resync; ending the process did not help.",
        fault="the API server, or a proxy before it, keeps watches open and sends nothing by them",
    ),
    Alert(
        key="operatorPodsMissed",
        expr="sum by (namespace) (embedding_operator_pods_uncovered) > 0",
        for_seconds=900,
        severity="warning",
        series="operator",
        summary="Pods of namespace {{ $labels.namespace }} lack the sidecar of their policy.",
        description="The webhook was not asked or was too late, or the API server did not inject.",
        fault="pods are created while the webhook is away, or without the chart's policy",
    ),
    Alert(
        key="operatorReconcilesStuck",
        expr=(
            "max(embedding_operator_oldest_reconcile_seconds) > 120"
            " or min_over_time(embedding_operator_queue_depth[10m]) > 0"
            " and on () sum(increase(embedding_operator_reconciles_total[10m])) == 0"
        ),
        for_seconds=300,
        severity="critical",
        series="operator",
        summary="The embedding operator does not finish its reconciles.",
        description="Policies are not applied; sidecars go on with what they have.",
        fault="a reconcile hangs in spite of the deadlines of all its calls, as by a bug",
    ),
    Alert(
        key="operatorDefinitionOutdated",
        expr="max by (definition) (embedding_operator_definition_missing_fields) > 0",
        for_seconds=900,
        severity="warning",
        series="operator",
        summary="{{ $labels.definition }} is older than the embedding operator.",
        description="The API server drops the fields that it lacks from what people apply.",
        fault="the operator is upgraded, and the definition of the release before stays",
    ),
)
"""The alerts about the operator, for the people who run it."""
