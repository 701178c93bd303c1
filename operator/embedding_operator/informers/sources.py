"""The watched kinds with their selectors, and the names of owned objects."""

from collections.abc import Callable, Mapping
from typing import Final

from embedding_contract import names
from embedding_operator.informers.pages import Source
from embedding_operator.kube import kinds

_OURS: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"

OPTIONAL: Final = frozenset(
    {kinds.PROMETHEUS_RULE, kinds.POD_MONITOR, kinds.INDEX, kinds.PROVIDER_CLASS, kinds.INJECTION}
)
"""Kinds that a cluster may lack."""
POLICIES: Final = Source(kind=kinds.POLICY)
INDEXES: Final = Source(kind=kinds.INDEX)
CLASSES: Final = Source(kind=kinds.PROVIDER_CLASS)
INJECTIONS: Final = Source(kind=kinds.INJECTION)
NAMESPACES: Final = Source(kind=kinds.NAMESPACE, metadata_only=True)
LIMIT_RANGES: Final = Source(kind=kinds.LIMIT_RANGE)
QUOTAS: Final = Source(kind=kinds.RESOURCE_QUOTA)
PODS: Final = Source(kind=kinds.POD, field_selector="status.phase!=Succeeded,status.phase!=Failed")
"""Pods that have not ended."""
NAMED_SECRETS: Final = Source(kind=kinds.SECRET, metadata_only=True, called="named secrets")
"""All Secrets, as those that policies, indexes and classes name have no label."""
OWNED: Final = tuple(
    Source(kind=kind, label_selector=_OURS, metadata_only=True)
    for kind in (
        kinds.CONFIG_MAP,
        kinds.SECRET,
        kinds.PROMETHEUS_RULE,
        kinds.POD_MONITOR,
    )
)
OWNED_NAMES: Final[Mapping[kinds.Kind, Callable[[str], frozenset[str]]]] = {
    kinds.CONFIG_MAP: lambda policy: frozenset(
        {names.document_configmap(policy), names.environment_configmap(policy)}
    ),
    kinds.PROMETHEUS_RULE: lambda policy: frozenset({names.monitoring(policy)}),
    kinds.POD_MONITOR: lambda policy: frozenset({names.monitoring(policy)}),
}
"""The names of a policy's objects, which bound their number. Secrets have the names of its entries,
and others are deleted."""


def of_index(kind: kinds.Kind, index: str) -> Source:
    """The objects of a kind labelled with this index."""
    return Source(kind=kind, label_selector=f"{names.LABEL_INDEX}={index}")
