"""The PodMonitor and the PrometheusRule of a policy. Every alert is one row of ALERTS."""

from dataclasses import dataclass
from typing import Final

from embedding_contract import names
from embedding_operator.policy import EmbeddingPolicy
from embedding_operator.render.ownership import Object, metadata

RUNBOOKS: Final = "https://github.com/agenticverz/embedding-operator/blob/main/docs/runbooks"
SELECTOR: Final = "@selector@"
"""Stands in an expression for the matchers that pick one policy's series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. Its runbook is docs/runbooks/NAME.md."""

    name: str
    expr: str
    for_: str
    severity: str
    summary: str
    description: str


ALERTS: Final = (
    Alert(
        name="EmbeddingQuotaExhausted",
        # The gauge is the whole policy's day, the same in every pod; but what a dead pod had been
        # granted is used and was never called, and tokens have a limit of their own: then the
        # refusals tell. A quota of 0 is meant to be.
        expr=(
            "max by (namespace, policy) (aos_embedding_daily_calls{@selector@})"
            " >= (max by (namespace, policy) (aos_embedding_daily_quota{@selector@}) > 0)"
            " or max by (namespace, policy)"
            " (increase(aos_embedding_quota_exhausted_total{@selector@}[5m])) > 0"
            " unless max by (namespace, policy) (aos_embedding_daily_quota{@selector@}) == 0"
        ),
        for_="1m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.policy }} has used up its daily quota.",
        description="Calls that are not in the cache are refused with 429 until 00:00 UTC.",
    ),
    Alert(
        name="EmbeddingProviderFailing",
        # A request that the provider refuses, or whose caller leaves, is no fault of the provider.
        expr=(
            "sum by (namespace, policy, provider) (rate("
            'aos_embedding_api_calls_total{@selector@, outcome!~"ok|rejected|cancelled"}[5m]))'
            " > 0.5 * sum by (namespace, policy, provider)"
            " (rate(aos_embedding_api_calls_total{@selector@}[5m]))"
        ),
        for_="5m",
        severity="warning",
        summary=(
            "More than half of the calls of {{ $labels.namespace }}/{{ $labels.policy }} to"
            " {{ $labels.provider }} fail."
        ),
        description="A backup answers where the policy allows one; else applications get errors.",
    ),
    Alert(
        name="EmbeddingKeyRefused",
        # Not by failed calls: while the previous key goes on, none fails.
        expr="max by (namespace, policy, provider) (aos_embedding_key_refused{@selector@}) == 1",
        for_="1m",
        severity="warning",
        summary=(
            "{{ $labels.provider }} refuses the newest key of"
            " {{ $labels.namespace }}/{{ $labels.policy }}."
        ),
        description=(
            "For 10 minutes sidecars that had the previous key go on with it; after that, and in"
            " pods started since, calls to this provider fail."
        ),
    ),
    Alert(
        name="EmbeddingConfigNotInForce",
        expr=(
            "max by (namespace, policy, pod) (aos_embedding_policy_rejected{@selector@}) == 1"
            " or max by (namespace, policy, pod)"
            ' (aos_embedding_policy_info{@selector@, document=""}) == 1'
        ),
        for_="5m",
        severity="warning",
        summary=(
            "Pod {{ $labels.pod }} does not obey the newest"
            " {{ $labels.namespace }}/{{ $labels.policy }}."
        ),
        description="Its sidecar has no document, or refuses the newest and stays with an older.",
    ),
)


def prometheus_rule(policy: EmbeddingPolicy) -> Object:
    """The alerts of this policy alone."""
    selector = f'namespace="{policy.namespace}", policy="{policy.name}"'
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr.replace(SELECTOR, selector),
            "for": alert.for_,
            "labels": {"severity": alert.severity, **policy.alert_labels},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
            },
        }
        for alert in ALERTS
    ]
    name = names.monitoring(policy.name)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(policy, name, labels=policy.alert_labels),
        "spec": {"groups": [{"name": f"{policy.namespace}.{name}", "rules": rules}]},
    }


def pod_monitor(policy: EmbeddingPolicy) -> Object:
    """Scrape every sidecar of this policy; its series carry the policy's name."""
    # Prometheus shows a pod label as __meta_kubernetes_pod_label_ and its name with _ for the rest.
    label = names.LABEL_INJECTED.translate(str.maketrans("./-", "___"))
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(policy, names.monitoring(policy.name), labels=policy.alert_labels),
        "spec": {
            "selector": {"matchLabels": {names.LABEL_INJECTED: policy.name}},
            "podMetricsEndpoints": [
                {
                    "port": names.ADMIN_PORT_NAME,
                    "path": names.PATH_METRICS,
                    "relabelings": [
                        {
                            "action": "replace",
                            "sourceLabels": [f"__meta_kubernetes_pod_label_{label}"],
                            "targetLabel": "policy",
                        }
                    ],
                }
            ],
        },
    }
