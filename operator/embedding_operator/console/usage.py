"""The counts of sidecars: pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import names

ENDED: Final = "(pods that have ended)"
_MADE_ANEW: Final = {
    "ReplicaSet": re.compile(r"(.+)-[a-z0-9]+"),
    "Job": re.compile(r"(.+)-[0-9]{8,}"),
}
"""Generated names of a Deployment's ReplicaSet and a CronJob's Job, without their suffixes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of one sidecar and its value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod with a sidecar, which serves GET /metrics on `port`; `workload` is its owner's name."""

    namespace: str
    policy: str
    name: str
    workload: str
    port: int
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


def pod(raw: Mapping[str, Any]) -> Pod:
    """A pod from its object."""
    metadata = raw["metadata"]
    return Pod(
        namespace=metadata["namespace"],
        policy=metadata.get("labels", {}).get(names.LABEL_INJECTED, ""),
        name=metadata["name"],
        workload=_workload(metadata),
        port=_port(raw.get("spec", {})),
        running=raw.get("status", {}).get("phase") == "Running",
    )


def tokens(
    seen: Iterable[Sample], *, namespace: str, policy: str, workload: str = ""
) -> Iterator[Tokens]:
    """The billed tokens among the series of a policy, or of one of its workloads."""
    for sample in seen:
        if sample.name == "aos_embedding_tokens_total":
            yield Tokens(
                namespace=namespace,
                policy=policy,
                workload=workload,
                provider=sample.labels.get("provider", ""),
                model=sample.labels.get("model", ""),
                tokens=sample.value,
            )


def _port(spec: Mapping[str, Any]) -> int:
    ports = (
        port
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ()))
        for port in container.get("ports", ())
    )
    found = (it["containerPort"] for it in ports if it.get("name") == names.ADMIN_PORT_NAME)
    return next(found, names.ADMIN_PORT)


def _workload(metadata: Mapping[str, Any]) -> str:
    """The name by the PodMonitor's relabelings, so that both ways of counting agree."""
    owners = metadata.get("ownerReferences", [])
    owner = next((it for it in owners if it.get("controller")), None)
    if owner is None:
        return str(metadata["name"])
    made_by = _MADE_ANEW.get(owner["kind"])
    found = made_by.fullmatch(owner["name"]) if made_by else None
    return found[1] if found else str(owner["name"])
