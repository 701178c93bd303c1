"""Decide which policy covers a pod, or why none does.

The webhook decides here before a pod exists and the status afterwards, so that they agree. Works on
raw objects: a policy that is not valid yet covers its pods too, which then wait for a document
instead of running without a sidecar for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from embedding_contract import names
from embedding_operator.kube import label_selectors

Object = Mapping[str, Any]

Reason = Literal[
    "NamespaceNotEnabled",
    "OptedOut",
    "NoPolicyMatches",
    "PolicyNotFound",
    "MirrorPod",
    "HostNetwork",
    "Windows",
    "NameTaken",
    "ServerTooOld",
    "LimitRange",
    "ResourceQuota",
]

ENABLED: Final = "enabled"
DISABLED: Final = "disabled"
NATIVE_SIDECARS_SINCE: Final = (1, 29)
"""The first Kubernetes with native sidecars on by default."""

MIRROR: Final = "kubernetes.io/config.mirror"
OS_LABELS: Final = ("kubernetes.io/os", "beta.kubernetes.io/os")
PORTS: Final = (names.API_PORT, names.ADMIN_PORT)
VOLUMES: Final = (names.VOLUME_DOCUMENT, names.VOLUME_SECRETS, names.VOLUME_IDENTITY)
CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The part of a policy that selection and injection need; `resources` None is the chart's.

    With `has_identity` a provider is called by the identity of the pod's ServiceAccount.
    """

    name: str
    created_at: str
    pod_selector: Object
    resources: Object | None = None
    has_identity: bool = False


@dataclass(frozen=True, slots=True)
class Covered:
    """The pod belongs to `candidate`; the younger `losers` select it too."""

    candidate: Candidate
    losers: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """The pod gets no sidecar; `candidate` is the policy that selects it, if any."""

    reason: Reason
    message: str
    candidate: Candidate | None = None


Decision = Covered | Skipped


def candidates(policies: Iterable[Object]) -> tuple[Candidate, ...]:
    """The policies of one namespace that may cover pods; those being deleted do not."""
    return tuple(
        _candidate(policy)
        for policy in policies
        if not policy["metadata"].get("deletionTimestamp") and "podSelector" in policy["spec"]
    )


def decide(
    pod: Object,
    *,
    namespace_labels: Mapping[str, str],
    among: Sequence[Candidate],
    server_version: tuple[int, int],
) -> Decision:
    """The policy of the namespace that covers a pod, or the reason why none does."""
    labels = _labels(pod)
    if namespace_labels.get(names.LABEL_INJECTION) != ENABLED:
        return Skipped(
            "NamespaceNotEnabled", f"the namespace has no label {names.LABEL_INJECTION}={ENABLED}"
        )
    if labels.get(names.LABEL_INJECTION) == DISABLED:
        return Skipped("OptedOut", f"the pod has the label {names.LABEL_INJECTION}={DISABLED}")
    chosen = _choose(labels, among)
    if isinstance(chosen, Skipped):
        return chosen
    obstacle = _obstacle(pod, server_version)
    return Skipped(*obstacle, chosen.candidate) if obstacle else chosen


def carries_sidecar(pod: Object) -> bool:
    """True if a pod has a sidecar that this operator injected, of any version."""
    return (
        names.LABEL_INJECTED in _labels(pod)
        and names.ANNOTATION_SIDECAR_HASH in _annotations(pod)
        and any(
            container["name"] == names.CONTAINER
            for container in pod["spec"].get("initContainers") or ()
        )
    )


def selects(candidate: Candidate, labels: Mapping[str, str]) -> bool:
    """True if a policy selects a pod with these labels.

    A pod of an index names its policy, which needs no matching podSelector: with an application's
    labels the pod would become an endpoint of the application's Service.
    """
    if names.LABEL_INDEX in labels:
        return labels.get(names.LABEL_POLICY) == candidate.name
    return label_selectors.matches(candidate.pod_selector, labels)


def by_age(among: Iterable[Candidate]) -> list[Candidate]:
    """The oldest first, then by name: the order in which policies cover pods."""
    return sorted(among, key=lambda candidate: (candidate.created_at, candidate.name))


def _choose(labels: Mapping[str, str], among: Sequence[Candidate]) -> Covered | Skipped:
    selecting = [candidate for candidate in by_age(among) if selects(candidate, labels)]
    asked = labels.get(names.LABEL_POLICY)
    if asked is not None:
        found = [candidate for candidate in selecting if candidate.name == asked]
        if found:
            return Covered(found[0])  # no losers: the pod's author chose
        exists = any(candidate.name == asked for candidate in among)
        why = "does not select this pod" if exists else "is not in this namespace"
        return Skipped("PolicyNotFound", f"the policy {asked!r} that the pod asks for {why}")
    if not selecting:
        return Skipped("NoPolicyMatches", "no policy of the namespace selects the pod")
    return Covered(selecting[0], tuple(selecting[1:]))


def _obstacle(pod: Object, server_version: tuple[int, int]) -> tuple[Reason, str] | None:
    return _kind_without_sidecar(pod) or _conflict(pod, server_version)


def _kind_without_sidecar(pod: Object) -> tuple[Reason, str] | None:
    if MIRROR in _annotations(pod):
        return "MirrorPod", "a mirror pod cannot be changed"
    if pod["spec"].get("hostNetwork"):
        return "HostNetwork", "pods on the host network would share the sidecar's two ports"
    if _on_windows(pod["spec"]):
        return "Windows", "there is no sidecar for Windows"
    return None


def _conflict(pod: Object, server_version: tuple[int, int]) -> tuple[Reason, str] | None:
    if carries_sidecar(pod):
        return None
    if taken := _taken(pod["spec"]):
        return "NameTaken", f"the pod has its own {taken}"
    if server_version < NATIVE_SIDECARS_SINCE:
        needed = ".".join(map(str, NATIVE_SIDECARS_SINCE))
        return "ServerTooOld", f"native sidecars need Kubernetes {needed} or newer"
    return None


def _on_windows(spec: Object) -> bool:
    node = spec.get("nodeSelector") or {}
    named = [(spec.get("os") or {}).get("name"), *(node.get(label) for label in OS_LABELS)]
    return "windows" in named


def _taken(spec: Object) -> str | None:
    """A name or port in the pod that the sidecar needs, in words."""
    for containers in CONTAINER_LISTS:
        for container in spec.get(containers) or ():
            name = container["name"]
            if name == names.CONTAINER:
                return f"container {name!r}"
            for port in container.get("ports") or ():
                if port.get("containerPort") in PORTS:
                    return f"port {port['containerPort']} (container {name!r})"
                if port.get("name") == names.ADMIN_PORT_NAME:
                    return f"port named {port['name']!r} (container {name!r})"
    for volume in spec.get("volumes") or ():
        if volume["name"] in VOLUMES:
            return f"volume {volume['name']!r}"
    return None


def _candidate(policy: Object) -> Candidate:
    metadata, spec = policy["metadata"], policy["spec"]
    return Candidate(
        name=metadata["name"],
        created_at=metadata.get("creationTimestamp", ""),
        pod_selector=spec["podSelector"],
        resources=(spec.get("sidecar") or {}).get("resources"),
        has_identity=_has_identity(spec.get("providers")),
    )


def _has_identity(providers: object) -> bool:
    # The schema of a later version may admit other forms.
    found = [it.get("azure") for it in _objects(providers)]
    return any(it.get("tenantID") is not None for it in _objects(found))


def _objects(values: object) -> list[Object]:
    return [it for it in values if isinstance(it, dict)] if isinstance(values, list) else []


def _labels(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _annotations(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}
