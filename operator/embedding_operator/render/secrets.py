"""The owned Secret, and Secrets kept in step with Vault."""

import base64
from collections.abc import Mapping
from typing import Final

from embedding_operator.kube.kinds import Object
from embedding_operator.kube.ownership import metadata
from embedding_operator.policy.policy import OPAQUE, EmbeddingPolicy, SyncedSecret

MAX_BYTES: Final = 1_048_576
"""The limit for all values of a Secret: MaxSecretSize of k8s.io/api/core/v1."""


def decode(found: Object | None) -> dict[str, bytes]:
    """The entries of a Secret; empty without one."""
    data = (found or {}).get("data") or {}
    return {key: base64.b64decode(value) for key, value in data.items()}


def of(policy: EmbeddingPolicy, name: str, values: Mapping[str, bytes]) -> Object:
    """The Secret of that name, owned by the policy."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": OPAQUE,
        "metadata": metadata(policy, name),
        "data": {key: base64.b64encode(value).decode() for key, value in sorted(values.items())},
    }


def of_entry(policy: EmbeddingPolicy, entry: SyncedSecret, values: Mapping[str, bytes]) -> Object:
    """The Secret of an entry of `spec.secrets`, owned by the policy."""
    made = of(policy, entry.name, values)
    made["type"] = entry.type
    made["metadata"] = metadata(policy, entry.name, labels=entry.labels)
    if entry.annotations:
        made["metadata"]["annotations"] = dict(entry.annotations)
    return made
