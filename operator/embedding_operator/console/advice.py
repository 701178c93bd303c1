"""The sentence that says what to do about a condition that tells of something wrong: pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from embedding_operator.kube import conditions

_BY_REASON: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PodsMissing": (
            "Delete the pods that are named, so that they are made again with the sidecar; a pod"
            " that was skipped needs the change that its reason names."
        ),
        "PodsBypassing": (
            "Restart the workload (kubectl rollout restart), so that its applications read the"
            " sidecar's address."
        ),
        "PathNotAllowed": (
            "Ask whoever installed the operator for a rule in vault.allowed that lets this"
            " namespace read the path, or name a path that a rule allows."
        ),
        "VaultForbidden": "Give the policy of the Vault role `read` on the path that is named.",
        "PathMissing": "Write the path in Vault, or correct it in the policy.",
        "KeyMissing": "Add the key that is named, or correct it in the policy.",
        "KeyEmpty": "Write a value under the key that is named.",
        "SecretMissing": "Create the Secret that is named, or correct its name in the policy.",
        "VaultNotConfigured": "Set vault.address in the chart's values, or use secretKeyRef.",
        "NotSelected": "Set the label that is named under spec.alerts.labels of the policy.",
        "CRDsAbsent": (
            "Install the Prometheus operator's CustomResourceDefinitions, or set"
            " spec.alerts.enabled to false."
        ),
        "ServerTooOld": "Upgrade Kubernetes to the version that is named, or newer.",
        "NoSharedStore": (
            "Name a Redis under spec.quota.redis or spec.cache.redis, so that all pods share one"
            " count."
        ),
        "StoreMayForget": (
            "Let the Redis keep what it acknowledges: appendonly yes, appendfsync always,"
            " maxmemory-policy noeviction."
        ),
        "StoreAway": "Bring back the Redis that the policy names.",
        "SidecarsBehind": (
            "Wait a minute for the kubelet; if it stays, look at the logs of the pods that are"
            " named."
        ),
        "SidecarsSilent": (
            "Let a NetworkPolicy allow the operator to reach port 8485 of the pods."
        ),
        "OlderPolicyWins": "Narrow the podSelector of one of the two policies.",
    }
)
_BY_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Accepted": "Correct the field that is named in the policy, and apply it again.",
        "SecretsSynced": "See the table of reasons in docs/install.md; it heals by itself.",
        "KeyRefused": "Put a key that the provider accepts where apiKey of this provider points.",
        "ConfigInForce": "Look at the logs of the pods that are named.",
        "InjectionSupported": "Upgrade Kubernetes to the version that is named, or newer.",
        "ProvidersReached": "Mend what the word names: docs/sidecar.md says what each means.",
        "PodsCovered": "Restart the pods that are named.",
        "MonitoringApplied": "Look at the operator's log; it tries again by itself.",
        "AlertsAccepted": "Correct the alert that is named under spec.alerts, and apply it again.",
        "RulesLoaded": (
            "Compare ruleSelector and ruleNamespaceSelector of your Prometheus with the labels of"
            " the PrometheusRule."
        ),
        "Scraped": (
            "Compare podMonitorSelector of your Prometheus with the labels of the PodMonitor, and"
            " let it reach port 8485."
        ),
        "AlertmanagerReady": "Look at the Alertmanager that is named.",
        "QuotaExact": "Give all pods one Redis that keeps what it acknowledges.",
        "Overlap": "Narrow the podSelector of one of the two policies.",
    }
)
_OTHERWISE: Final = "See docs/install.md for what this condition says."


def state(condition: Mapping[str, Any]) -> str:
    """`good`, `bad` or `unknown`."""
    wrong = "True" if condition["type"] in conditions.AMISS else "False"
    if condition["status"] == "Unknown":
        return "unknown"
    return "bad" if condition["status"] == wrong else "good"


def sentence(condition: Mapping[str, Any]) -> str:
    """What to do; empty where the condition says that all is well."""
    if state(condition) == "good":
        return ""
    by_type = _BY_TYPE.get(condition["type"], _OTHERWISE)
    return _BY_REASON.get(condition["reason"], by_type)
