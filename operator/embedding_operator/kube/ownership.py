"""Owner references, labels and names of owned objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from embedding_contract import names
from embedding_operator.kube.kinds import Object, ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A policy or an index, which owns objects of its namespace."""

    kind: ClassVar[str]
    label: ClassVar[str]
    """The label that names the owner on an owned object."""
    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)


def metadata(owner: Owner, name: str, *, labels: Mapping[str, str] | None = None) -> Object:
    """Metadata of an object that is deleted with its owner."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {
            **(labels or {}),
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            owner.label: owner.name,
        },
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def owner_of(found: Mapping[str, Any]) -> str:
    """The owner of an object, in words for a condition."""
    for reference in found["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return f"{reference['kind']} {reference['name']}"
    managers = [
        entry["manager"]
        for entry in found["metadata"].get("managedFields", [])
        if entry.get("manager")
    ]
    return f"field manager {managers[0]}" if managers else "another owner"


def is_ours(found: Mapping[str, Any], owner: Owner) -> bool:
    """True if an object in the cluster belongs to this owner.

    The owner controls it, or it has no controller and the operator made it for an owner of this
    kind and name, which was deleted with `--cascade=orphan` or restored from a backup.
    """
    metadata = found["metadata"]
    controllers = [it for it in metadata.get("ownerReferences", []) if it.get("controller")]
    if controllers:
        return any(reference.get("uid") == owner.uid for reference in controllers)
    return is_made_for(found, type(owner), owner.name)


def is_made_for(found: Mapping[str, Any], kind: type[Owner], name: str) -> bool:
    """True if the operator made an object for an owner of this kind and name, there or gone."""
    labels = found["metadata"].get("labels", {})
    made_by, made_for = labels.get(names.LABEL_MANAGED_BY), labels.get(kind.label)
    return bool(made_by == names.MANAGED_BY and made_for == name)
