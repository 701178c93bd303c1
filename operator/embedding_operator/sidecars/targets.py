"""The pods to ask for a policy or an index, and what they should have in force."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import formats, names
from embedding_contract.index_report import IndexReport
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.status import config_in_force, quota_status

_INDEX: Final = "index/"
"""Names of policies contain no slash."""


def of_index(index: ObjectKey) -> ObjectKey:
    """The key that stands for an index among policies."""
    return ObjectKey(index.namespace, f"{_INDEX}{index.name}")


def index_of(key: ObjectKey) -> ObjectKey | None:
    """The index that a key stands for; None where it is a policy's own."""
    if not key.name.startswith(_INDEX):
        return None
    return ObjectKey(key.namespace, key.name.removeprefix(_INDEX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that runs a sidecar; a restarted one is asked at once.

    `is_of_index`: its container of the index is asked, not the sidecar.
    """

    namespace: str
    name: str
    uid: str
    address: str
    restarts: int = 0
    is_of_index: bool = False

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Pod":
        """A pod from its object, which has an address."""
        return cls._of(found, "initContainerStatuses", names.CONTAINER, is_of_index=False)

    @classmethod
    def of_index(cls, found: Mapping[str, Any]) -> "Pod":
        """A pod of an index from its object, which has an address."""
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
    """The fingerprints that every pod should report, and the token for requests.

    `has_quota` is False if the pods cannot report the live quota. `later` are keys of the document
    that sidecars of an older release may not know.
    """

    document: str
    secrets: str
    token: str = field(repr=False)
    has_quota: bool = True
    later: formats.Later = ()

    @property
    def content(self) -> str:
        """Both fingerprints as one string."""
        return f"{self.document}.{self.secrets}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The pods of a policy; `wanted` is None without a document in the cluster.

    `policy_uid` tells a policy from a deleted one of the same name.
    """

    policy_uid: str
    pods: tuple[Pod, ...]
    wanted: Wanted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The last answers of a policy's sidecars; `quota` is None if none has reported it.

    `reports` come from pods of an index.
    """

    force: config_in_force.Force
    quota: quota_status.LiveQuota | None = None
    reports: tuple[tuple[Pod, IndexReport], ...] = ()
