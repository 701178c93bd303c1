"""What the sidecar may use, such that the API server accepts the pod and its QoS class stays."""

from collections.abc import Mapping
from typing import Any, Final

from embedding_operator.kube import quantities

Object = Mapping[str, Any]

_GUARANTEED: Final = ("cpu", "memory")
_KNOWN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})


def fit(written: Object, *, chart: Object, spec: Object) -> Object:
    """Requests and limits of the sidecar in this pod.

    Args:
        written: what the policy says, or else the chart; a container's `resources`.
        chart: the chart's, which fill what a Guaranteed pod needs and `written` leaves out.
        spec: the pod's, before injection.
    """
    if spec.get("resources"):
        return {}  # the pod has a budget of its own, which its containers share
    limits = _usable(written.get("limits"))
    requests = _usable(written.get("requests"))
    if _guaranteed(spec):
        default = _usable(chart.get("limits"))
        both = {name: default[name] for name in _GUARANTEED if name in default} | requests | limits
        return {"requests": both, "limits": both}
    fitting = {
        name: limits[name]
        if name in limits and quantities.amount(limits[name]) < quantities.amount(wanted)
        else wanted
        for name, wanted in requests.items()
    }
    return {kind: named for kind, named in (("requests", fitting), ("limits", limits)) if named}


def _usable(amounts: Object | None) -> dict[str, Any]:
    """Without what would make the API server refuse the pod: a typing error stops no pod."""
    return {
        name: quantity
        for name, quantity in (amounts or {}).items()
        if name in _KNOWN and quantities.amount(quantity) >= 0
    }


def _guaranteed(spec: Object) -> bool:
    """Whether kubelet would class the pod as Guaranteed, as it stands without the sidecar."""
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return all(_fixed(container.get("resources") or {}) for container in containers)


def _fixed(resources: Object) -> bool:
    """Whether cpu and memory have limits, and requests equal to them (the default)."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits
        and quantities.amount(requests.get(name, limits[name])) == quantities.amount(limits[name])
        for name in _GUARANTEED
    )
