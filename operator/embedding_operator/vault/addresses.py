"""What is read in Vault, and as whom."""

from collections.abc import Mapping
from typing import NamedTuple

Values = Mapping[str, bytes]


class Identity(NamedTuple):
    """As whom Vault is asked: a ServiceAccount of the policy's own namespace, and a role."""

    namespace: str
    service_account: str
    role: str | None


class Address(NamedTuple):
    """A path of a mount, as one identity sees it."""

    identity: Identity
    mount: str
    path: str

    @property
    def namespace(self) -> str:
        """The namespace for which it is read."""
        return self.identity.namespace

    def __str__(self) -> str:
        return f"{self.mount}/{self.path}"
