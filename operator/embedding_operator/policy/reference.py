"""Places from which a policy takes a value: Vault, a Secret, or the policy itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class VaultReference:
    """A key of a Vault path."""

    mount: str
    path: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key} of Vault path {self.mount}/{self.path}"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A key of a Secret of the policy's namespace."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key} of Secret {self.name}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in the policy itself, not a secret."""

    value: str


@dataclass(frozen=True, slots=True)
class ClassReference:
    """The value of a ClusterEmbeddingProvider, which its object refers to."""

    name: str

    def __str__(self) -> str:
        return f"the value of ClusterEmbeddingProvider {self.name}"


Reference = VaultReference | SecretReference | Literal | ClassReference


def parse(entry: Mapping[str, Any] | None) -> Reference | None:
    """The reference of a field such as `apiKey` or `redis`; None where it is absent."""
    if entry is None:
        return None
    if "vault" in entry:
        return VaultReference(**entry["vault"])
    if "secretKeyRef" in entry:
        return SecretReference(**entry["secretKeyRef"])
    return Literal(entry["url"])
