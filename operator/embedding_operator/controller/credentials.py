"""Resolve a policy's secret values: each is found, or a problem names it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import secret_values
from embedding_operator.controller.class_credentials import ClassCredentials
from embedding_operator.controller.secret_values import SecretStore, SecretValues, Value
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy import policy, provider_guard
from embedding_operator.policy.reference import ClassReference, VaultReference
from embedding_operator.render import secret_contents
from embedding_operator.status import secret_status
from embedding_operator.vault import Address, Identity

KEYS_SHOWN: Final = 5


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


class Credentials:
    """Resolves the references of policies, and of their classes in the operator's `namespace`."""

    def __init__(
        self,
        *,
        reads: CurrentReads,
        store: SecretStore | None,
        namespace: str,
        guard: provider_guard.ProviderGuard = provider_guard.OFF,
    ) -> None:
        self._values = SecretValues(reads=reads, store=store)
        self._of_classes = ClassCredentials(values=self._values, namespace=namespace)
        self._guard = guard

    def follow(self, wanted: policy.EmbeddingPolicy) -> None:
        """Have Vault polled at the paths that this policy and its classes name, and no others."""
        of_classes = [it for used in wanted.classes for it in self._of_classes.addresses(used)]
        self._values.follow(wanted.key, (*_addresses(wanted), *of_classes))

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        self._values.follow(key, ())

    def refresh(self, wanted: policy.EmbeddingPolicy) -> None:
        """Have every path of this policy's own polled now."""
        self._values.refresh(_addresses(wanted))

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
            for known in (self._values.known(address),)
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
            if isinstance(reference, ClassReference):
                found = self._of_class(wanted, key, reference)
            else:
                refuses = self._guard.secret_refusal
                found = self._values.of(reference, identity=_identity(wanted), refuses=refuses)
            problems += (errors.Problem(it.reason, f"{key}: {it.message}") for it in found.problems)
            pending += found.pending
            if found.refused:
                refused.add(key)
            if found.value is None:
                continue
            unusable = secret_values.unusable(key, found.value, reference)
            if unusable is None and not isinstance(reference, ClassReference):
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

    def _of_class(
        self, wanted: policy.EmbeddingPolicy, entry: str, reference: ClassReference
    ) -> Value:
        """The value of a class; its own condition says why there is none, and names its place."""
        used = next(it for it in wanted.classes if it.name == reference.name)
        found = self._of_classes.entry(used, entry)
        if found.value is not None or found.pending:
            pending = (f"ClusterEmbeddingProvider {used.name}",) if found.value is None else ()
            return Value(found.value, pending=pending)
        message = f"{reference} is not available; its condition KeyAvailable says why"
        return Value(problems=(errors.Problem("ClassKeyMissing", message),))

    def synced(self, wanted: policy.EmbeddingPolicy, entry: policy.SyncedSecret) -> Found:
        """The values of one entry of `spec.secrets`."""
        address = Address(_identity(wanted), entry.mount, entry.path)
        known = self._values.known(address)
        named = ", ".join(list(entry.keys or ("all keys",))[:KEYS_SHOWN])
        problems = secret_values.told(known.problem, before=f"{entry.name}: ", after=f" ({named})")
        if known.values is None:
            return Found(
                values={},
                problems=problems,
                pending=(str(address),) if known.pending else (),
                gone=known.gone,
            )
        content = secret_contents.of(entry, known.values, path=str(address))
        return Found(values=content.values, problems=problems + content.problems)


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
