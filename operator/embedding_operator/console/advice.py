"""The advice for a condition that reports a fault: pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from embedding_operator.kube import conditions

_BY_REASON: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PodsMissing": (
            "Delete the named pods to have them recreated with the sidecar; a skipped pod needs the"
            " change that its reason names."
        ),
        "PodsBypassing": (
            "Restart the workload (kubectl rollout restart), so that its applications read the"
            " sidecar's address."
        ),
        "PathNotAllowed": (
            "Ask the administrator for a rule in vault.allowed that lets this namespace read the"
            " path, or name a path that a rule allows."
        ),
        "VaultForbidden": "Give the policy of the Vault role `read` on the named path.",
        "PathMissing": "Write the path in Vault, or correct it in the policy.",
        "KeyMissing": "Add the named key, or correct it in the policy.",
        "KeyEmpty": "Write a value under the named key.",
        "SecretMissing": "Create the named Secret, or correct its name in the policy.",
        "VaultNotConfigured": "Set vault.address in the chart's values, or use secretKeyRef.",
        "NotSelected": "Set the named label under spec.alerts.labels of the policy.",
        "CRDsAbsent": (
            "Install the Prometheus operator's CustomResourceDefinitions, or set"
            " spec.alerts.enabled to false."
        ),
        "ServerTooOld": "Upgrade Kubernetes to the named version, or newer.",
        "NoSharedStore": (
            "Name a Redis under spec.quota.redis or spec.cache.redis, so that all pods share one"
            " count."
        ),
        "StoreMayForget": (
            "Make acknowledged writes durable in Redis: appendonly yes, appendfsync always,"
            " maxmemory-policy noeviction."
        ),
        "StoreAway": "Restore the Redis that the policy names.",
        "SidecarsBehind": (
            "Wait a minute for the kubelet; if it persists, check the logs of the named pods."
        ),
        "SidecarsSilent": (
            "Let a NetworkPolicy allow the operator to reach port 8485 of the pods."
        ),
        "PriceUnknown": (
            "Set pricePerMillionTokens of the named provider, or remove the limits of cost."
        ),
        "OlderPolicyWins": "Narrow the podSelector of one of the two policies.",
    }
)
_BY_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Accepted": "Correct the named field of the policy, and apply it again.",
        "SecretsSynced": "See the table of reasons in docs/install.md; the operator retries.",
        "KeyRefused": "Store a valid key where apiKey of this provider points.",
        "ConfigInForce": "Check the logs of the named pods.",
        "InjectionSupported": "Upgrade Kubernetes to the named version, or newer.",
        "ProvidersReached": "Correct the cause that the word names; docs/sidecar.md explains each.",
        "PodsCovered": "Restart the named pods.",
        "PullSecretsFound": "Create the named Secrets in the namespace of the policy.",
        "MonitoringApplied": "Check the operator's log; it retries by itself.",
        "AlertsAccepted": "Correct the named alert under spec.alerts, and apply it again.",
        "RulesLoaded": (
            "Compare ruleSelector and ruleNamespaceSelector of your Prometheus with the labels of"
            " the PrometheusRule."
        ),
        "Scraped": (
            "Compare podMonitorSelector of your Prometheus with the labels of the PodMonitor, and"
            " let it reach port 8485."
        ),
        "AlertmanagerReady": "Check the named Alertmanager.",
        "QuotaExact": "Give all pods one Redis with durable writes.",
        "Overlap": "Narrow the podSelector of one of the two policies.",
        "QuotaObserved": "Raise the named limits, or set spec.quota.mode to Enforce to hold them.",
        "SidecarsResized": "Wait, or restart the pods with kubectl embedding rollout.",
        "ModelRetires": "Plan the change to another model before the named day (docs/models.md).",
    }
)
_OTHERWISE: Final = "See docs/install.md for this condition."


def state(condition: Mapping[str, Any]) -> str:
    """`good`, `bad` or `unknown`."""
    wrong = "True" if condition["type"] in conditions.AMISS else "False"
    if condition["status"] == "Unknown":
        return "unknown"
    return "bad" if condition["status"] == wrong else "good"


def sentence(condition: Mapping[str, Any]) -> str:
    """The advice; empty for a good condition."""
    if state(condition) == "good":
        return ""
    by_type = _BY_TYPE.get(condition["type"], _OTHERWISE)
    return _BY_REASON.get(condition["reason"], by_type)
