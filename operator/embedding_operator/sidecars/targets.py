"""The pods to ask for a policy or an index, and what they should have in force."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import names
from embedding_contract.index_report import IndexReport
from embedding_operator.status import config_in_force, policy_status

Policy = tuple[str, str]
"""Namespace and name; for an index the name that `of_index` gives it."""
_INDEX: Final = "index/"
"""No policy's name has a slash in it."""


def of_index(namespace: str, name: str) -> Policy:
    """By what the pods of an index are known."""
    return namespace, f"{_INDEX}{name}"


def index_of(policy: Policy) -> str | None:
    """The name of the index that this stands for; None where it is a policy."""
    return policy[1].removeprefix(_INDEX) if policy[1].startswith(_INDEX) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that runs a sidecar. One that has restarted is asked at once.

    `is_of_index`: what works for an index there is asked, and not the sidecar.
    """

    namespace: str
    name: str
    uid: str
    address: str
    restarts: int = 0
    is_of_index: bool = False

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Pod":
        """The pod of an object of Kubernetes that has an address."""
        return cls._of(found, "initContainerStatuses", names.CONTAINER, is_of_index=False)

    @classmethod
    def of_index(cls, found: Mapping[str, Any]) -> "Pod":
        """The same, to ask what works for an index there."""
        return cls._of(found, "containerStatuses", names.VECTORS_CONTAINER, is_of_index=True)

    @classmethod
    def _of(
        cls, found: Mapping[str, Any], statuses: str, container: str, *, is_of_index: bool
    ) -> "Pod":
        metadata, seen = found["metadata"], found["status"]
        counts = (
            int(it.get("restartCount") or 0)
            for it in seen.get(statuses) or ()
            if it["name"] == container
        )
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            address=str(seen["podIP"]),
            restarts=next(counts, 0),
            is_of_index=is_of_index,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What every sidecar of a policy, or pod of an index, should report, and the token to ask with.

    `has_quota` is False where nobody can tell the live quota.
    """

    document: str
    secrets: str
    token: str = field(repr=False)
    has_quota: bool = True

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
    """What the sidecars of a policy last said; `quota` None where none has told.

    `reports` are what pods of an index said of it.
    """

    force: config_in_force.Force
    quota: policy_status.LiveQuota | None = None
    reports: tuple[tuple[Pod, IndexReport], ...] = ()
