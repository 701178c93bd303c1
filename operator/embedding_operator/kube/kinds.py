"""The kinds of objects that the operator uses, and the paths of the API server for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from embedding_contract import names

Object = dict[str, Any]
"""An object of the API server, as JSON."""


class ObjectKey(NamedTuple):
    """Namespace and name of a policy or an index; a cluster-scoped object has no namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Account(NamedTuple):
    """A ServiceAccount."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Kind:
    """API group, plural and scope of a kind."""

    group: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The path of an object, or of the collection."""
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        # Quoted, so that a slash in a name cannot reach another namespace.
        parts = (part for part in (self.plural, quote(name, safe=":"), subresource) if part)
        return f"/{self.group}{scope}/{'/'.join(parts)}"


def is_name(text: str) -> bool:
    """True if an object may have this name: client-go's IsValidPathSegmentName, not empty.

    The API server decodes a path before it divides it: with a slash it would take another request.
    """
    return text not in {"", ".", ".."} and not {"/", "%"}.intersection(text)


CONFIG_MAP: Final = Kind("api/v1", "configmaps")
SECRET: Final = Kind("api/v1", "secrets")
POD: Final = Kind("api/v1", "pods")
EVENT: Final = Kind("api/v1", "events")
NAMESPACE: Final = Kind("api/v1", "namespaces", namespaced=False)
LIMIT_RANGE: Final = Kind("api/v1", "limitranges")
RESOURCE_QUOTA: Final = Kind("api/v1", "resourcequotas")
SERVICE: Final = Kind("api/v1", "services")
SERVICE_ACCOUNT: Final = Kind("api/v1", "serviceaccounts")
POLICY: Final = Kind(f"apis/{names.API_VERSION}", names.PLURAL)
INDEX: Final = Kind(f"apis/{names.API_VERSION}", names.INDEX_PLURAL)
PROVIDER_CLASS: Final = Kind(f"apis/{names.API_VERSION}", names.CLASS_PLURAL, namespaced=False)
INJECTION: Final = Kind(f"apis/{names.API_VERSION}", names.INJECTION_PLURAL)
PROMETHEUS_RULE: Final = Kind("apis/monitoring.coreos.com/v1", "prometheusrules")
POD_MONITOR: Final = Kind("apis/monitoring.coreos.com/v1", "podmonitors")
PROMETHEUSES: Final = (
    Kind("apis/monitoring.coreos.com/v1", "prometheuses"),
    Kind("apis/monitoring.coreos.com/v1alpha1", "prometheusagents"),
    Kind("apis/monitoring.coreos.com/v1", "thanosrulers"),
)
"""The kinds of the Prometheus operator that select rules and PodMonitors."""
DEPLOYMENT: Final = Kind("apis/apps/v1", "deployments")
REPLICA_SET: Final = Kind("apis/apps/v1", "replicasets")
STATEFUL_SET: Final = Kind("apis/apps/v1", "statefulsets")
DAEMON_SET: Final = Kind("apis/apps/v1", "daemonsets")
JOB: Final = Kind("apis/batch/v1", "jobs")
CRON_JOB: Final = Kind("apis/batch/v1", "cronjobs")
LEASE: Final = Kind("apis/coordination.k8s.io/v1", "leases")
WEBHOOK: Final = Kind(
    "apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False
)
DEFINITION: Final = Kind(
    "apis/apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False
)
MUTATING_POLICY: Final = Kind(
    "apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", namespaced=False
)

KINDS: Final[Mapping[str, Kind]] = {
    "ConfigMap": CONFIG_MAP,
    "Secret": SECRET,
    "PrometheusRule": PROMETHEUS_RULE,
    "PodMonitor": POD_MONITOR,
    "MutatingWebhookConfiguration": WEBHOOK,
    "Deployment": DEPLOYMENT,
    "StatefulSet": STATEFUL_SET,
    "DaemonSet": DAEMON_SET,
    "Service": SERVICE,
    "Job": JOB,
    "CronJob": CRON_JOB,
    names.INJECTION_KIND: INJECTION,
}
ECHOING: Final = frozenset({CONFIG_MAP, SECRET, PROMETHEUS_RULE, POD_MONITOR})
"""Kinds that the operator writes and watches, so that it sees its own writes."""
WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet")
"""The kinds whose pods are replaced when their template changes."""
