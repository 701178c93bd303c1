"""Whom to ask for a policy, and what they should have in force."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedding_contract import names
from embedding_operator import config_in_force, status

Policy = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that runs a sidecar. One that has restarted is asked at once."""

    namespace: str
    name: str
    uid: str
    address: str
    restarts: int = 0

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Pod":
        """The pod of an object of Kubernetes that has an address."""
        metadata, seen = found["metadata"], found["status"]
        counts = (
            int(it.get("restartCount") or 0)
            for it in seen.get("initContainerStatuses") or ()
            if it["name"] == names.CONTAINER
        )
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            address=str(seen["podIP"]),
            restarts=next(counts, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What every sidecar of a policy should report, and the token to ask with."""

    document: str
    secrets: str
    token: str = field(repr=False)

    @property
    def content(self) -> str:
        """Both fingerprints in one word."""
        return f"{self.document}.{self.secrets}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The pods of a policy. `wanted` is None where no document stands in the cluster.

    `policy_uid` tells a policy from one of the same name that was deleted.
    """

    policy_uid: str
    pods: tuple[Pod, ...]
    wanted: Wanted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the sidecars of a policy last said; `quota` None where none has told."""

    force: config_in_force.Force
    quota: status.LiveQuota | None = None
