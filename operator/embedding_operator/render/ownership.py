"""What all owned objects have in common: names, labels and whose they are."""

from collections.abc import Mapping
from typing import Any

from embedding_contract import names
from embedding_operator.policy import EmbeddingPolicy

Object = dict[str, Any]


def metadata(
    policy: EmbeddingPolicy, name: str, *, labels: Mapping[str, str] | None = None
) -> Object:
    """Metadata of an object of this policy, which goes when the policy goes."""
    return {
        "name": name,
        "namespace": policy.namespace,
        "labels": {
            **(labels or {}),
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_POLICY: policy.name,
        },
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": policy.name,
                "uid": policy.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def owner(found: Mapping[str, Any]) -> str:
    """Who an object belongs to, in words for a condition."""
    for reference in found["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return f"{reference['kind']} {reference['name']}"
    managers = [
        entry["manager"]
        for entry in found["metadata"].get("managedFields", [])
        if entry.get("manager")
    ]
    return f"whoever wrote it with {managers[0]}" if managers else "somebody else"


def is_ours(found: Mapping[str, Any], policy: EmbeddingPolicy) -> bool:
    """Whether an object that stands in the cluster is this policy's.

    It is if the policy controls it, or if nobody does and the operator made it for a policy of this
    name: one that was deleted with `--cascade=orphan`, or restored from a backup.
    """
    metadata = found["metadata"]
    controllers = [it for it in metadata.get("ownerReferences", []) if it.get("controller")]
    if controllers:
        return any(reference.get("uid") == policy.uid for reference in controllers)
    labels = metadata.get("labels", {})
    made_by, made_for = labels.get(names.LABEL_MANAGED_BY), labels.get(names.LABEL_POLICY)
    return bool(made_by == names.MANAGED_BY and made_for == policy.name)
