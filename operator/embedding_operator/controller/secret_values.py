"""The value of one reference: found, or a problem names it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.policy.reference import Literal, SecretReference, VaultReference
from embedding_operator.render import secrets
from embedding_operator.vault import Address, Identity, Reading

KEY_MAX_BYTES: Final = 16_384
"""Common HTTP servers accept no longer header, and ten of them fit into a Secret."""
_PROVIDER_KEY_PREFIX: Final = names.secret_provider_key("")

Refuses = Callable[[Object, SecretReference], errors.Problem | None]


class SecretStore(Protocol):
    """Vault, or a fake of it: policies register their paths, and reads return at once."""

    def follow(self, policy: ObjectKey, addresses: frozenset[Address]) -> None:
        """Replace the paths that a policy, by namespace and name, needs."""

    def read(self, address: Address) -> Reading:
        """The last reading of a followed path."""

    def refresh(self, addresses: Iterable[Address]) -> None:
        """Poll these at once."""


@dataclass(frozen=True, slots=True)
class Value:
    """One reference, resolved as far as possible."""

    value: bytes | None = field(default=None, repr=False)
    problems: tuple[errors.Problem, ...] = ()
    pending: tuple[str, ...] = ()
    refused: bool = False


class SecretValues:
    """Reads Secrets of the cluster, and the last readings of Vault."""

    def __init__(self, *, reads: CurrentReads, store: SecretStore | None) -> None:
        self._reads = reads
        self._store = store

    def follow(self, key: ObjectKey, addresses: Iterable[Address]) -> None:
        """Have Vault polled at these paths for an object, and at no others for it."""
        if self._store is not None:
            self._store.follow(key, frozenset(addresses))

    def refresh(self, addresses: Iterable[Address]) -> None:
        """Have these paths polled now."""
        if self._store is not None:
            self._store.refresh(addresses)

    def of(
        self,
        reference: Literal | SecretReference | VaultReference,
        *,
        identity: Identity,
        refuses: Refuses = lambda _, __: None,
    ) -> Value:
        """The value, read as `identity` and from Secrets of its namespace.

        `refuses` returns the reason why a Secret may not be used.
        """
        if isinstance(reference, Literal):
            return Value(reference.value.encode())
        if isinstance(reference, SecretReference):
            return self._from_secret(identity.namespace, reference, refuses)
        address = Address(identity, reference.mount, reference.path)
        reading = self.known(address)
        problems = told(reading.problem, after=f" ({reference.key})")
        if reading.values is None:
            return Value(problems=problems, pending=(str(address),) if reading.pending else ())
        if reference.key not in reading.values:
            missing = f"there is no key {reference.key} at {address}"
            problems = (*problems, errors.Problem("KeyMissing", missing))
        return Value(reading.values.get(reference.key), problems)

    def known(self, address: Address) -> Reading:
        """The last reading of a path."""
        if self._store is not None:
            return self._store.read(address)
        message = f"{address} is in Vault, but the chart sets no vault.address"
        return Reading(problem=errors.Problem("VaultNotConfigured", message))

    def _from_secret(self, namespace: str, reference: SecretReference, refuses: Refuses) -> Value:
        found = self._reads.get(kinds.SECRET, namespace, reference.name)
        if found is None:
            message = f"there is no Secret {reference.name} ({reference.key})"
            return Value(problems=(errors.Problem("SecretMissing", message),))
        refusal = refuses(found, reference)
        if refusal is not None:
            return Value(problems=(refusal,), refused=True)
        values = secrets.decode(found)
        if reference.key not in values:
            message = f"there is no key {reference.key} in Secret {reference.name}"
            return Value(problems=(errors.Problem("KeyMissing", message),))
        return Value(values[reference.key])


def told(
    problem: errors.Problem | None, *, before: str = "", after: str = ""
) -> tuple[errors.Problem, ...]:
    """A problem with more words, as a tuple; empty without one."""
    if problem is None:
        return ()
    return (errors.Problem(problem.reason, f"{before}{problem.message}{after}"),)


def unusable(key: str, value: bytes, reference: object) -> errors.Problem | None:
    """The problem of a value that a sidecar cannot use; None where it can."""
    if not value.strip():
        return errors.Problem("KeyEmpty", f"{key}: {reference} is empty")
    if len(value) > KEY_MAX_BYTES:
        message = f"{key}: {reference} has {len(value)} bytes; the limit is {KEY_MAX_BYTES}"
        return errors.Problem("KeyUnusable", message)
    if _is_key(key) and not _sendable(value):
        message = f"{key}: {reference} holds characters that no HTTP header can carry"
        return errors.Problem("KeyUnusable", message)
    return None


def _is_key(entry: str) -> bool:
    """True if an entry of the owned Secret is sent in a header."""
    return entry.startswith((_PROVIDER_KEY_PREFIX, names.CLASS_KEY_PREFIX))


def _sendable(value: bytes) -> bool:
    """True if a value can be an HTTP header: visible ASCII, white space only at the ends."""
    return all(0x21 <= byte <= 0x7E for byte in value.strip())  # noqa: PLR2004 - RFC 9110, 5.5
