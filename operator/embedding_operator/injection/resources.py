"""The sidecar's resources, chosen so that the pod is accepted and keeps its QoS class."""

import decimal
from collections.abc import Mapping
from typing import Any, Final

from embedding_operator.kube import quantities

Object = Mapping[str, Any]

GUARANTEED: Final = ("cpu", "memory")
"""The resources whose requests and limits decide on the QoS class."""
_KNOWN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})


def fit(written: Object, *, chart: Object, spec: Object) -> Object:
    """Requests and limits of the sidecar in this pod: `written` by the policy or the chart."""
    if spec.get("resources"):
        return {}  # the pod has a budget that its containers share
    if _is_guaranteed(spec):
        return guaranteed(written, chart=chart)
    return ordinary(written)


def guaranteed(written: Object, *, chart: Object) -> Object:
    """Those in a Guaranteed pod; the chart's complete them."""
    limits, requests = _usable(written.get("limits")), _usable(written.get("requests"))
    default = _usable(chart.get("limits"))
    both = {name: default[name] for name in GUARANTEED if name in default} | requests | limits
    return {"requests": both, "limits": both}


def ordinary(written: Object) -> Object:
    """Those in any other pod: no request is above its limit."""
    limits, requests = _usable(written.get("limits")), _usable(written.get("requests"))
    fitting = {
        name: limits[name]
        if name in limits and quantities.amount(limits[name]) < quantities.amount(wanted)
        else wanted
        for name, wanted in requests.items()
    }
    return {kind: named for kind, named in (("requests", fitting), ("limits", limits)) if named}


def _usable(amounts: Object | None) -> dict[str, Any]:
    """The amounts that the API server accepts: a typing error must stop no pod."""
    return {
        name: quantity
        for name, quantity in (amounts or {}).items()
        if name in _KNOWN and _is_amount(quantity)
    }


def _is_amount(quantity: str | int) -> bool:
    try:
        return quantities.amount(quantity) >= 0
    except decimal.InvalidOperation:
        return False


def _is_guaranteed(spec: Object) -> bool:
    """True if the pod without the sidecar is of QoS class Guaranteed."""
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return all(_fixed(container.get("resources") or {}) for container in containers)


def _fixed(resources: Object) -> bool:
    """True if cpu and memory have limits, and requests equal to them (the default)."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits
        and quantities.amount(requests.get(name, limits[name])) == quantities.amount(limits[name])
        for name in GUARANTEED
    )
