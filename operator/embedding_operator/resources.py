"""What the sidecar may use, such that the API server accepts the pod and its QoS class stays."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

Object = Mapping[str, Any]

_GUARANTEED: Final = ("cpu", "memory")
_KNOWN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_FACTORS: Final = {
    suffix: factor
    for power, letter in enumerate("kMGTPE", start=1)
    for suffix, factor in (
        (letter, Decimal(1000) ** power),
        (f"{letter.upper()}i", Decimal(1024) ** power),
    )
} | {"m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}


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
        name: limits[name] if name in limits and amount(limits[name]) < amount(wanted) else wanted
        for name, wanted in requests.items()
    }
    return {kind: named for kind, named in (("requests", fitting), ("limits", limits)) if named}


def amount(quantity: str | int) -> Decimal:
    """A Quantity of k8s.io/apimachinery as a number: "100m" is 0.1, "1Ki" is 1024."""
    text = str(quantity)
    for suffix in _suffixes(text):
        return Decimal(text.removesuffix(suffix)) * _FACTORS[suffix]
    return Decimal(text)


def _suffixes(text: str) -> Iterable[str]:
    return (text[-length:] for length in (2, 1) if text[-length:] in _FACTORS)


def _usable(amounts: Object | None) -> dict[str, Any]:
    """Without what would make the API server refuse the pod: a typing error stops no pod."""
    return {
        name: quantity
        for name, quantity in (amounts or {}).items()
        if name in _KNOWN and amount(quantity) >= 0
    }


def _guaranteed(spec: Object) -> bool:
    """Whether kubelet would class the pod as Guaranteed, as it stands without the sidecar."""
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return all(_fixed(container.get("resources") or {}) for container in containers)


def _fixed(resources: Object) -> bool:
    """Whether cpu and memory have limits, and requests equal to them (the default)."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits and amount(requests.get(name, limits[name])) == amount(limits[name])
        for name in _GUARANTEED
    )
