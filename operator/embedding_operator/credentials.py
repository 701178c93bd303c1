"""Where a policy's secret values come from: each is found, or there is a problem that names it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from embedding_contract import names
from embedding_operator import cluster, errors, policy
from embedding_operator.render import secrets
from embedding_operator.vault import Identity, Values

KEYS_SHOWN: Final = 5
_DATA_KEY: Final = re.compile(r"(?=.{1,253}$)\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*")
"""What the API server takes as a key of a Secret (IsConfigMapKey of k8s.io/apimachinery)."""


class SecretStore(Protocol):
    """Vault, or what stands in for it."""

    def read(self, identity: Identity, *, mount: str, path: str) -> Values | errors.Problem:
        """All keys of a path, or why not."""
        ...


class Objects(Protocol):
    """Reads objects of the cluster."""

    def get(self, kind: cluster.Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """An object; None where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What could be resolved, by the keys of the target Secret, and what could not."""

    values: Mapping[str, bytes] = field(repr=False)
    problems: tuple[errors.Problem, ...]


class Credentials:
    """Resolves references of a policy."""

    def __init__(self, *, objects: Objects, store: SecretStore | None) -> None:
        self._objects = objects
        self._store = store

    def owned(self, wanted: policy.EmbeddingPolicy) -> Found:
        """What the owned Secret is made of, the API token apart."""
        values: dict[str, bytes] = {}
        problems: list[errors.Problem] = []
        for key, reference in policy.references(wanted).items():
            found = self._resolve(wanted, reference)
            if isinstance(found, errors.Problem):
                problems.append(errors.Problem(found.reason, f"{key}: {found.message}"))
            elif not found.strip():
                problems.append(errors.Problem("KeyEmpty", f"{key}: {reference} is empty"))
            elif key.startswith(names.secret_provider_key("")) and not _sendable(found):
                problems.append(
                    errors.Problem(
                        "KeyUnusable", f"{key}: {reference} holds characters no API key has"
                    )
                )
            else:
                values[key] = found
        return Found(values=values, problems=tuple(problems))

    def synced(self, wanted: policy.EmbeddingPolicy, entry: policy.SyncedSecret) -> Found:
        """What one entry of `spec.secrets` is made of."""
        found = self._read(wanted, mount=entry.mount, path=entry.path)
        if isinstance(found, errors.Problem):
            named = ", ".join(list(entry.keys or ("all keys",))[:KEYS_SHOWN])
            told = errors.Problem(found.reason, f"{entry.name}: {found.message} ({named})")
            return Found(values={}, problems=(told,))
        where = f"{entry.mount}/{entry.path}"
        keys = {key: key for key in found} if not entry.keys else entry.keys
        missing = tuple(
            errors.Problem("KeyMissing", f"there is no key {key} at {where}")
            for key in keys
            if key not in found
        )
        unusable = tuple(
            errors.Problem("KeyUnusable", f"no Secret can hold the key {key} of {where}: rename it")
            for key, name in keys.items()
            if not _DATA_KEY.fullmatch(name)
        )
        values = {
            name: found[key]
            for key, name in keys.items()
            if key in found and _DATA_KEY.fullmatch(name)
        }
        return Found(values=values, problems=missing + unusable)

    def _resolve(
        self, wanted: policy.EmbeddingPolicy, reference: policy.Reference
    ) -> bytes | errors.Problem:
        if isinstance(reference, policy.Literal):
            return reference.value.encode()
        if isinstance(reference, policy.SecretReference):
            return self._from_secret(wanted, reference)
        found = self._read(wanted, mount=reference.mount, path=reference.path)
        if isinstance(found, errors.Problem):
            return errors.Problem(found.reason, f"{found.message} ({reference.key})")
        if reference.key not in found:
            where = f"{reference.mount}/{reference.path}"
            return errors.Problem("KeyMissing", f"there is no key {reference.key} at {where}")
        return found[reference.key]

    def _from_secret(
        self, wanted: policy.EmbeddingPolicy, reference: policy.SecretReference
    ) -> bytes | errors.Problem:
        found = self._objects.get(cluster.SECRET, wanted.namespace, reference.name)
        if found is None:
            return errors.Problem(
                "SecretMissing", f"there is no Secret {reference.name} ({reference.key})"
            )
        values = secrets.decode(found)
        if reference.key not in values:
            return errors.Problem(
                "KeyMissing", f"there is no key {reference.key} in Secret {reference.name}"
            )
        return values[reference.key]

    def _read(
        self, wanted: policy.EmbeddingPolicy, *, mount: str, path: str
    ) -> Values | errors.Problem:
        if self._store is None:
            return errors.Problem(
                "VaultNotConfigured", f"{mount}/{path} is in Vault, and the operator knows of none"
            )
        identity = Identity(
            namespace=wanted.namespace,
            service_account=wanted.vault_service_account,
            role=wanted.vault_role,
        )
        return self._store.read(identity, mount=mount, path=path)


def _sendable(value: bytes) -> bool:
    """Whether a value can be an HTTP header: visible ASCII, white space only at the ends."""
    return all(0x21 <= byte <= 0x7E for byte in value.strip())  # noqa: PLR2004 - RFC 9110, 5.5
