"""Resources of a running sidecar beside those that it should have: pure.

From Kubernetes 1.35 cpu and memory of a container can be changed in a running pod, of a native
sidecar too. A request or limit that a container has cannot be taken away, a QoS class does not
change, and a node may lack room (docs/decisions/042-secrets-for-applications.md).
"""

from collections.abc import Mapping
from typing import Any, Final

from embedding_contract import names
from embedding_operator.errors import Problem
from embedding_operator.injection import resources
from embedding_operator.kube import quantities

Object = Mapping[str, Any]

SINCE: Final = (1, 35)
"""The first Kubernetes where it is stable."""
_RESIZABLE: Final = ("cpu", "memory")
_KINDS: Final = ("requests", "limits")
_MEMORY_LIMIT: Final = ("limits", "memory")
_PENDING: Final = "PodResizePending"
_IN_PROGRESS: Final = "PodResizeInProgress"
_REASONS: Final = {
    (_PENDING, "Deferred"): "ResizeDeferred",
    (_PENDING, "Infeasible"): "ResizeInfeasible",
    (_IN_PROGRESS, "Error"): "ResizeFailed",
}
REFUSED: Final = "ResizeRefused"
NEW_PODS_ONLY: Final = "NewPodsOnly"
RESIZING: Final = "Resizing"
WORST_FIRST: Final = (
    REFUSED,
    "ResizeInfeasible",
    "ResizeFailed",
    "ResizeDeferred",
    RESIZING,
    NEW_PODS_ONLY,
)


def wanted(written: Object, *, chart: Object, pod: Object) -> dict[str, dict[str, Any]]:
    """The sidecar's requests and limits in this pod, with the API server's defaults."""
    spec = pod["spec"]
    others = [it for it in spec.get("initContainers") or () if it["name"] != names.CONTAINER]
    fitted = resources.fit(written, chart=chart, spec={**spec, "initContainers": others})
    limits = dict(fitted.get("limits") or {})
    made = {"requests": {**limits, **(fitted.get("requests") or {})}, "limits": limits}
    return {kind: amounts for kind, amounts in made.items() if amounts}


def in_spec(pod: Object) -> Object:
    """The requests and limits that the pod's sidecar is to have."""
    return _resources(pod["spec"].get("initContainers"))


def seen(pod: Object) -> Object:
    """The requests and limits that kubelet reports; those to have if it reports none."""
    statuses = (pod.get("status") or {}).get("initContainerStatuses")
    return _resources(statuses) or in_spec(pod)


def is_as(found: Object, desired: Object) -> bool:
    """True if both have the same amounts."""
    return _amounts(found) == _amounts(desired)


def differs(found: Object, desired: Object) -> bool:
    """True if cpu or memory is to have another amount."""
    return any(_other_amounts(found, desired).values())


def change(pod: Object, desired: Object) -> dict[str, dict[str, Any]]:
    """The amounts of cpu and memory to change in the spec of a running pod; empty for none.

    A sidecar sizes its work by the memory limit that it starts with, so one that is lower than what
    kubelet reports is left out; a higher one that kubelet has only been asked for is taken back.
    """
    made = _other_amounts(in_spec(pod), desired)
    have, limit = _amounts(seen(pod)).get(_MEMORY_LIMIT), made["limits"].get("memory")
    if have is not None and limit is not None and quantities.amount(limit) < have:
        for amounts in made.values():
            amounts.pop("memory", None)
    return {kind: amounts for kind, amounts in made.items() if amounts}


def _other_amounts(found: Object, desired: Object) -> dict[str, dict[str, Any]]:
    have = _amounts(found)
    return {
        kind: {
            name: amount
            for name, amount in (desired.get(kind) or {}).items()
            if name in _RESIZABLE and have.get((kind, name)) != quantities.amount(amount)
        }
        for kind in _KINDS
    }


def obstacle(pod: Object) -> Problem:
    """The reason why a change that was asked for is not seen yet, as kubelet gives it."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        reason = _REASONS.get((condition.get("type", ""), condition.get("reason") or ""))
        if reason is not None and condition.get("status") == "True":
            return Problem(reason, str(condition.get("message") or ""))
    return Problem(RESIZING, "")


def _resources(containers: Any) -> Object:
    for it in containers or ():
        if it["name"] == names.CONTAINER:
            found: Object = it.get("resources") or {}
            return found
    return {}


def _amounts(found: Object) -> dict[tuple[str, str], Any]:
    return {
        (kind, name): quantities.amount(amount)
        for kind in _KINDS
        for name, amount in (found.get(kind) or {}).items()
    }
