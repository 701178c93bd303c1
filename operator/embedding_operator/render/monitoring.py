"""The objects for the Prometheus operator: a policy's PodMonitor and PrometheusRules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import names
from embedding_operator.errors import Problem
from embedding_operator.kube.kinds import Object
from embedding_operator.kube.ownership import metadata
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.render import additional_alerts, alert_rules

_META: Final = "__meta_kubernetes_pod"
# Prometheus shows a pod label as __meta_kubernetes_pod_label_ and its name with _ for the rest.
_POLICY: Final = f"{_META}_label_{names.LABEL_INJECTED.translate(str.maketrans('./-', '___'))}"
_INDEX: Final = f"{_META}_label_{names.LABEL_INDEX.translate(str.maketrans('./-', '___'))}"
_CONTROLLER: Final = [f"{_META}_controller_kind", f"{_META}_controller_name"]

RELABELINGS: Final = (
    {"action": "replace", "sourceLabels": [_POLICY], "targetLabel": "policy"},
    {"action": "replace", "sourceLabels": [_CONTROLLER[1]], "targetLabel": "workload"},
    # A Deployment's pods belong to a ReplicaSet, a CronJob's to a Job, with generated names.
    {
        "action": "replace",
        "sourceLabels": _CONTROLLER,
        "regex": "ReplicaSet;(.+)-[a-z0-9]+",
        "replacement": "$1",
        "targetLabel": "workload",
    },
    {
        "action": "replace",
        "sourceLabels": _CONTROLLER,
        "regex": "Job;(.+)-[0-9]{8,}",
        "replacement": "$1",
        "targetLabel": "workload",
    },
)
"""Set the labels policy and workload of a sidecar's series."""
INDEX_RELABELINGS: Final = (
    *RELABELINGS,
    {"action": "replace", "sourceLabels": [_INDEX], "targetLabel": "index"},
)
"""Also set the label index, for the series of an index's containers only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """The objects of a policy, and the problems of rendering.

    `additional` is None if the policy adds no accepted alert.
    """

    rule: Object
    additional: Object | None
    pod_monitor: Object
    problems: tuple[Problem, ...]

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects to apply."""
        return tuple(it for it in (self.rule, self.additional, self.pod_monitor) if it is not None)


def of(
    policy: EmbeddingPolicy,
    *,
    additional_allowed: bool = False,
    selected_by: Mapping[str, str] | None = None,
) -> Monitoring:
    """All objects for the Prometheus operator.

    Without labels in the policy they get `selected_by`, by which every Prometheus selects.
    """
    added, refused = additional_alerts.rules(policy, allowed=additional_allowed)
    labels = policy.alert_labels or selected_by or {}
    return Monitoring(
        rule=prometheus_rule(policy, labels=labels),
        additional=additional_rule(policy, added, labels=labels) if added else None,
        pod_monitor=pod_monitor(policy, labels=labels),
        problems=(*alert_rules.problems(policy), *refused),
    )


def prometheus_rule(policy: EmbeddingPolicy, *, labels: Mapping[str, str] | None = None) -> Object:
    """The built-in alerts of this policy, and its recording rules."""
    name = names.monitoring(policy.name)
    group = f"{policy.namespace}.{name}"
    groups = [
        {"name": group, "rules": alert_rules.built_in(policy)},
        # Names of objects have no colon, so that no other policy's group has this name.
        {"name": f"{group}:records", "rules": alert_rules.recording(policy)},
    ]
    return _rules(policy, name, [it for it in groups if it["rules"]], labels=labels)


def additional_rule(
    policy: EmbeddingPolicy,
    rules: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[str, str] | None = None,
) -> Object:
    """The alerts that a policy adds, in an object of their own.

    So an expression that only our parser accepts does not block the built-in alerts.
    """
    name = names.additional_alerts(policy.name)
    groups = [{"name": f"{policy.namespace}.{name}", "rules": list(rules)}]
    return _rules(policy, name, groups, labels=labels)


def pod_monitor(policy: EmbeddingPolicy, *, labels: Mapping[str, str] | None = None) -> Object:
    """Scrape every sidecar of this policy, and the containers of indexes in the same pods."""
    labels = policy.alert_labels if labels is None else labels
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(policy, names.monitoring(policy.name), labels=labels),
        "spec": {
            "selector": {"matchLabels": {names.LABEL_INJECTED: policy.name}},
            "podMetricsEndpoints": [
                {
                    "port": names.ADMIN_PORT_NAME,
                    "path": names.PATH_METRICS,
                    "relabelings": [dict(it) for it in RELABELINGS],
                },
                {
                    "port": names.VECTORS_PORT_NAME,
                    "path": names.PATH_METRICS,
                    "relabelings": [dict(it) for it in INDEX_RELABELINGS],
                },
            ],
        },
    }


def _rules(
    policy: EmbeddingPolicy,
    name: str,
    groups: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[str, str] | None,
) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(
            policy, name, labels=policy.alert_labels if labels is None else labels
        ),
        "spec": {"groups": list(groups)},
    }
