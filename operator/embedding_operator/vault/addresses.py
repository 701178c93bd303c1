"""Paths of Vault, and the identities that read them."""

from collections.abc import Mapping
from typing import NamedTuple

Values = Mapping[str, bytes]


class Identity(NamedTuple):
    """A ServiceAccount of the policy's own namespace, and a role: the login for a read."""

    namespace: str
    service_account: str
    role: str | None


class Address(NamedTuple):
    """A path of a mount, read as one identity."""

    identity: Identity
    mount: str
    path: str

    @property
    def namespace(self) -> str:
        """The namespace that it is read for."""
        return self.identity.namespace

    def __str__(self) -> str:
        return f"{self.mount}/{self.path}"
