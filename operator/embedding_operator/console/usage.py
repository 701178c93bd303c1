"""What sidecars have counted: pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

ENDED: Final = "(pods that have ended)"
_HASH: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of one sidecar and its value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that carries the sidecar; `workload` is `Kind/name` of what made it."""

    namespace: str
    policy: str
    name: str
    workload: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens that a provider billed. `provider` is its type in lower case."""

    namespace: str
    policy: str
    workload: str
    provider: str
    model: str
    tokens: float


def pod(raw: Mapping[str, Any], *, policy_label: str) -> Pod:
    """A pod as the API server tells it."""
    metadata = raw["metadata"]
    return Pod(
        namespace=metadata["namespace"],
        policy=metadata.get("labels", {}).get(policy_label, ""),
        name=metadata["name"],
        workload=_workload(metadata),
        running=raw.get("status", {}).get("phase") == "Running",
    )


def tokens(pod: Pod, seen: Iterable[Sample]) -> Iterator[Tokens]:
    """The billed tokens among a pod's series."""
    for sample in seen:
        if sample.name == "aos_embedding_tokens_total":
            yield Tokens(
                namespace=pod.namespace,
                policy=pod.policy,
                workload=pod.workload,
                provider=sample.labels.get("provider", ""),
                model=sample.labels.get("model", ""),
                tokens=sample.value,
            )


def _workload(metadata: Mapping[str, Any]) -> str:
    owners = metadata.get("ownerReferences", [])
    owner = next((it for it in owners if it.get("controller")), None)
    if owner is None:
        return f"Pod/{metadata['name']}"
    kind, name = owner["kind"], owner["name"]
    suffix = f"-{metadata.get('labels', {}).get(_HASH, '')}"
    if kind == "ReplicaSet" and name.endswith(suffix):
        # A Deployment's ReplicaSets come and go; people know the Deployment.
        return f"Deployment/{name.removesuffix(suffix)}"
    return f"{kind}/{name}"
