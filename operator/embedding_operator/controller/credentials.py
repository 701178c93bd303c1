"""Resolve a policy's secret values: each is found, or a problem names it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy import policy, provider_guard
from embedding_operator.policy.reference import (
    Literal,
    Reference,
    SecretReference,
    VaultReference,
)
from embedding_operator.render import secrets
from embedding_operator.status import secret_status
from embedding_operator.vault import Address, Identity, Reading

KEYS_SHOWN: Final = 5
KEY_MAX_BYTES: Final = 16_384
"""Common HTTP servers accept no longer header, and ten of them fit into a Secret."""
_DATA_KEY: Final = re.compile(r"(?=.{1,253}$)\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*")
"""Valid keys of a Secret (IsConfigMapKey of k8s.io/apimachinery)."""


class SecretStore(Protocol):
    """Vault, or a fake of it: policies register their paths, and reads return at once."""

    def follow(self, policy: ObjectKey, addresses: frozenset[Address]) -> None:
        """Replace the paths that a policy, by namespace and name, needs."""

    def read(self, address: Address) -> Reading:
        """The last reading of a followed path."""

    def refresh(self, addresses: Iterable[Address]) -> None:
        """Poll these at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Values by the keys of the target Secret, and the problems of the others.

    `pending` names paths not polled yet; `gone` means that Vault holds nothing at the path;
    `refused` are keys that the administrator's guard no longer allows.
    """

    values: Mapping[str, bytes] = field(repr=False)
    problems: tuple[errors.Problem, ...] = ()
    pending: tuple[str, ...] = ()
    gone: bool = False
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Value:
    """One reference, resolved as far as possible."""

    value: bytes | None = field(default=None, repr=False)
    problems: tuple[errors.Problem, ...] = ()
    pending: tuple[str, ...] = ()
    refused: bool = False


class Credentials:
    """Resolves the references of policies."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        store: SecretStore | None,
        guard: provider_guard.ProviderGuard = provider_guard.OFF,
    ) -> None:
        self._objects = objects
        self._store = store
        self._guard = guard

    def follow(self, wanted: policy.EmbeddingPolicy) -> None:
        """Have Vault polled at the paths that this policy names, and no others for it."""
        if self._store is not None:
            self._store.follow(wanted.key, frozenset(_addresses(wanted)))

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        if self._store is not None:
            self._store.follow(key, frozenset())

    def refresh(self, wanted: policy.EmbeddingPolicy) -> None:
        """Have every path of this policy polled now."""
        if self._store is not None:
            self._store.refresh(_addresses(wanted))

    def sources(self, wanted: policy.EmbeddingPolicy) -> tuple[secret_status.Source, ...]:
        """Each path of Vault, the Secret that it fills, and its last reading."""
        return tuple(
            secret_status.Source(
                secret=secret,
                path=str(address),
                version=known.version,
                changed_at=known.changed_at,
                whole=known.whole,
                is_good=None if known.pending else known.problem is None,
            )
            for secret, address in _targets(wanted)
            for known in (self._known(address),)
        )

    def owned(self, wanted: policy.EmbeddingPolicy) -> Found:
        """The values of the owned Secret, without those that the operator generates.

        The value of an entry is not read if the guard forbids its URL in the policy.
        """
        values: dict[str, bytes] = {}
        problems: list[errors.Problem] = []
        pending: list[str] = []
        refused: set[str] = set()
        closed = {it.entry: it for it in self._guard.refusals(wanted)}
        for key, reference in policy.references(wanted).items():
            if key in closed:
                message = f"{key} is not read: {closed[key].message}"
                problems.append(errors.Problem(provider_guard.HOST_NOT_ALLOWED, message))
                continue
            found = self._resolve(wanted, reference)
            problems += (errors.Problem(it.reason, f"{key}: {it.message}") for it in found.problems)
            pending += found.pending
            if found.refused:
                refused.add(key)
            if found.value is None:
                continue
            unusable = _unusable(key, found.value, reference)
            if unusable is None:
                unusable = self._guard.value_refusal(wanted, key, found.value, reference=reference)
                refused |= {key} if unusable is not None else set()
            if unusable is None:
                values[key] = found.value
            else:
                problems.append(unusable)
        return Found(
            values=values,
            problems=tuple(problems),
            pending=tuple(pending),
            refused=frozenset(refused),
        )

    def synced(self, wanted: policy.EmbeddingPolicy, entry: policy.SyncedSecret) -> Found:
        """The values of one entry of `spec.secrets`."""
        address = Address(_identity(wanted), entry.mount, entry.path)
        known = self._known(address)
        named = ", ".join(list(entry.keys or ("all keys",))[:KEYS_SHOWN])
        problems = _told(known.problem, before=f"{entry.name}: ", after=f" ({named})")
        if known.values is None:
            return Found(
                values={},
                problems=problems,
                pending=(str(address),) if known.pending else (),
                gone=known.gone,
            )
        found = known.values
        keys = {key: key for key in found} if not entry.keys else entry.keys
        missing = tuple(
            errors.Problem("KeyMissing", f"there is no key {key} at {address}")
            for key in keys
            if key not in found
        )
        unusable = tuple(
            errors.Problem(
                "KeyUnusable", f"key {key} of {address} is not a valid key of a Secret; rename it"
            )
            for key, name in keys.items()
            if not _DATA_KEY.fullmatch(name)
        )
        values = {
            name: found[key]
            for key, name in keys.items()
            if key in found and _DATA_KEY.fullmatch(name)
        }
        return Found(values=values, problems=problems + missing + unusable)

    def _resolve(self, wanted: policy.EmbeddingPolicy, reference: Reference) -> _Value:
        if isinstance(reference, Literal):
            return _Value(reference.value.encode())
        if isinstance(reference, SecretReference):
            return self._from_secret(wanted, reference)
        address = Address(_identity(wanted), reference.mount, reference.path)
        known = self._known(address)
        problems = _told(known.problem, after=f" ({reference.key})")
        if known.values is None:
            return _Value(problems=problems, pending=(str(address),) if known.pending else ())
        if reference.key not in known.values:
            missing = f"there is no key {reference.key} at {address}"
            problems = (*problems, errors.Problem("KeyMissing", missing))
        return _Value(known.values.get(reference.key), problems)

    def _from_secret(self, wanted: policy.EmbeddingPolicy, reference: SecretReference) -> _Value:
        found = self._objects.get(kinds.SECRET, wanted.namespace, reference.name)
        if found is None:
            message = f"there is no Secret {reference.name} ({reference.key})"
            return _Value(problems=(errors.Problem("SecretMissing", message),))
        refusal = self._guard.secret_refusal(found, reference)
        if refusal is not None:
            return _Value(problems=(refusal,), refused=True)
        values = secrets.decode(found)
        if reference.key not in values:
            message = f"there is no key {reference.key} in Secret {reference.name}"
            return _Value(problems=(errors.Problem("KeyMissing", message),))
        return _Value(values[reference.key])

    def _known(self, address: Address) -> Reading:
        if self._store is not None:
            return self._store.read(address)
        message = f"{address} is in Vault, but the chart sets no vault.address"
        return Reading(problem=errors.Problem("VaultNotConfigured", message))


def _identity(wanted: policy.EmbeddingPolicy) -> Identity:
    return Identity(
        namespace=wanted.namespace,
        service_account=wanted.vault_service_account,
        role=wanted.vault_role,
    )


def _targets(wanted: policy.EmbeddingPolicy) -> list[tuple[str, Address]]:
    """Each Secret with each path that fills it, once."""
    identity, owned = _identity(wanted), names.owned_secret(wanted.name)
    found = [
        (owned, Address(identity, reference.mount, reference.path))
        for reference in policy.references(wanted).values()
        if isinstance(reference, VaultReference)
    ]
    found += [(it.name, Address(identity, it.mount, it.path)) for it in wanted.secrets]
    return list(dict.fromkeys(found))


def _addresses(wanted: policy.EmbeddingPolicy) -> list[Address]:
    return [address for _, address in _targets(wanted)]


def _told(
    problem: errors.Problem | None, *, before: str = "", after: str = ""
) -> tuple[errors.Problem, ...]:
    if problem is None:
        return ()
    return (errors.Problem(problem.reason, f"{before}{problem.message}{after}"),)


def _unusable(key: str, value: bytes, reference: Reference) -> errors.Problem | None:
    """The problem of a value that a sidecar cannot use; None where it can."""
    if not value.strip():
        return errors.Problem("KeyEmpty", f"{key}: {reference} is empty")
    if len(value) > KEY_MAX_BYTES:
        message = f"{key}: {reference} has {len(value)} bytes; the limit is {KEY_MAX_BYTES}"
        return errors.Problem("KeyUnusable", message)
    if key.startswith(names.secret_provider_key("")) and not _sendable(value):
        message = f"{key}: {reference} holds characters that no HTTP header can carry"
        return errors.Problem("KeyUnusable", message)
    return None


def _sendable(value: bytes) -> bool:
    """True if a value can be an HTTP header: visible ASCII, white space only at the ends."""
    return all(0x21 <= byte <= 0x7E for byte in value.strip())  # noqa: PLR2004 - RFC 9110, 5.5
