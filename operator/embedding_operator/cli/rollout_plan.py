"""The workloads whose pods lack today's sidecar, and what a restart of each would do: pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import names
from embedding_operator import terminal
from embedding_operator.injection import injector, resizing, selection

Object = Mapping[str, Any]

NO_SIDECAR: Final = "no sidecar"
OLD_SIDECAR: Final = "older sidecar"
OLD_RESOURCES: Final = "other resources"
NOT_COMPARED: Final = "not compared"
STARTED_EARLY: Final = "started before the sidecar's address was set"
RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
_NOT_RESTARTED: Final = "not restarted: "
_ENDS: Final = "its pods end by themselves; the next run gets a new one"
_OTHERS: Final = {"Job": _ENDS, "CronJob": _ENDS, "Pod": "delete and create it anew"}
_HEADS: Final = ("WORKLOAD", "PODS", "REASON", "ACTION")


@dataclass(frozen=True, slots=True)
class Look:
    """A dry run of a new pod of a workload: the pod, or the reason why there is none."""

    pod: Object | None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A workload with pods that lack today's sidecar; `restarts` where a restart renews them."""

    kind: str
    name: str
    uid: str = ""
    pods: int
    late: Mapping[str, str]
    action: str
    restarts: bool = False


def new_pod(workload: Object) -> dict[str, Any]:
    """A pod as the workload's controller would create it, for a dry run."""
    template, metadata = workload["spec"]["template"], workload["metadata"]
    claims = workload["spec"].get("volumeClaimTemplates") or ()
    volumes = [{"name": it["metadata"]["name"], "emptyDir": {}} for it in claims]
    spec = dict(template["spec"])
    if volumes:
        spec["volumes"] = [*(spec.get("volumes") or ()), *volumes]
    kept = {key: template.get("metadata", {}).get(key) or {} for key in ("labels", "annotations")}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            **kept,
        },
        "spec": spec,
    }


def row(
    workload: Object,
    pods: Sequence[Object],
    look: Look,
    *,
    environment_since: Mapping[str, str | None],
) -> Row | None:
    """A workload with its pods; None if all of them have today's sidecar.

    `environment_since` has the time of each policy's status since when its address is set.
    """
    late = {
        str(pod["metadata"]["name"]): why
        for pod in pods
        if (why := _why(pod, look.pod, environment_since)) is not None
    }
    if not late:
        return None
    obstacle = _obstacle(workload, late, look)
    metadata = workload["metadata"]
    return Row(
        kind=workload["kind"],
        name=metadata["name"],
        uid=metadata["uid"],
        pods=len(pods),
        late=late,
        action=f"{_NOT_RESTARTED}{obstacle}" if obstacle else _action(workload, late),
        restarts=obstacle is None,
    )


def other(kind: str, name: str, pods: Sequence[Object], action: str | None = None) -> Row | None:
    """Pods that no Deployment, StatefulSet or DaemonSet replaces; None if all have a sidecar."""
    late = {
        str(pod["metadata"]["name"]): NO_SIDECAR
        for pod in pods
        if not selection.carries_sidecar(pod)
    }
    if not late:
        return None
    obstacle = action or _OTHERS.get(kind, f"a {kind} is restarted by its own tool")
    return Row(
        kind=kind, name=name, pods=len(pods), late=late, action=f"{_NOT_RESTARTED}{obstacle}"
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text, by kind and name."""
    lines = [
        (f"{it.kind}/{it.name}", f"{len(it.late)}/{it.pods}", _reasons(it), it.action)
        for it in sorted(rows, key=lambda it: (not it.restarts, it.kind, it.name))
    ]
    return "".join(f"{line}\n" for line in terminal.columns([_HEADS, *lines]))


def _reasons(it: Row) -> str:
    found = list(it.late.values())
    return ", ".join(f"{found.count(why)} {why}" for why in dict.fromkeys(sorted(found)))


def _why(
    pod: Object, new: Object | None, environment_since: Mapping[str, str | None]
) -> str | None:
    if not selection.carries_sidecar(pod):
        return NO_SIDECAR
    policy = pod["metadata"]["labels"][names.LABEL_INJECTED]
    since = environment_since.get(policy)
    if since is not None and injector.is_bypassing(pod, environment_since=since):
        return STARTED_EARLY
    if new is None or not selection.carries_sidecar(new):
        return NOT_COMPARED
    if injector.shape(pod) != injector.shape(new):
        return OLD_SIDECAR
    same = resizing.is_as(resizing.in_spec(pod), resizing.in_spec(new))
    return None if same else OLD_RESOURCES


def _obstacle(workload: Object, late: Mapping[str, str], look: Look) -> str | None:
    """The reason why a restart would not help, or is not for us to do; None for none."""
    if look.pod is None:
        return f"the API server refuses a new pod: {look.refusal}"
    if not selection.carries_sidecar(look.pod):
        return f"a new pod would get no sidecar: {look.refusal}"
    kept = _kept(workload, late)
    obstacles = {
        f"paused: kubectl rollout resume deployment/{workload['metadata']['name']} first": bool(
            workload["spec"].get("paused")
        ),
        "OnDelete: delete the pods yourself": _strategy(workload).get("type") == "OnDelete",
        f"partition {_partition(workload)} keeps these pods": bool(kept) and len(kept) == len(late),
        "its pods are being replaced already; look again afterwards": _is_rolling(workload),
    }
    return next((text for text, is_there in obstacles.items() if is_there), None)


def _action(workload: Object, late: Mapping[str, str]) -> str:
    kind, how = workload["kind"], _strategy(workload)
    rolling = how.get("rollingUpdate") or {}
    if kind == "StatefulSet":
        kept = _kept(workload, late)
        but = f"; partition {_partition(workload)} keeps {', '.join(kept)}" if kept else ""
        return f"restart: one pod after another{but}"
    if how.get("type") == "Recreate":
        return "restart: all pods stop before new ones start (Recreate)"
    bounds = [f"{key} {rolling[key]}" for key in ("maxUnavailable", "maxSurge") if key in rolling]
    return ", ".join(["restart: rolling", *bounds])


def _strategy(workload: Object) -> Object:
    spec = workload["spec"]
    found: Object = spec.get("strategy") or spec.get("updateStrategy") or {}
    return found


def _partition(workload: Object) -> int:
    if workload["kind"] != "StatefulSet":
        return 0
    return int((_strategy(workload).get("rollingUpdate") or {}).get("partition") or 0)


def _kept(workload: Object, late: Mapping[str, str]) -> list[str]:
    """The late pods that a partition keeps as they are."""
    partition = _partition(workload)
    return [name for name in sorted(late) if _ordinal(name) < partition] if partition else []


def _ordinal(pod: str) -> int:
    digits = pod.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _is_rolling(workload: Object) -> bool:
    kind, status, spec = workload["kind"], workload.get("status") or {}, workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return True
    if kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(status.get("updatedNumberScheduled", 0) < wanted)
    if _partition(workload):
        return False
    if kind == "StatefulSet" and status.get("updateRevision") == status.get("currentRevision"):
        return False
    updated = status.get("updatedReplicas", 0)
    return bool(updated < max(spec.get("replicas", 1), status.get("replicas", 0)))


def owners(pod: Object) -> Iterator[tuple[str, str]]:
    """Kind and name of the controller of an object, if it has one."""
    for it in pod["metadata"].get("ownerReferences") or ():
        if it.get("controller"):
            yield it["kind"], it["name"]
