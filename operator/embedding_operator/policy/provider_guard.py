"""The administrator's guards: which Secrets policies may name, and which hosts they may call.

The author of a policy names a Secret and the address that receives its value, perhaps without the
right to read it. Both guards come from the chart's values, never from a policy, and are off by
default. They are permissions: a value that a guard no longer allows is removed from the owned
Secret, while a value that merely cannot be read stays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.kube import conditions
from embedding_operator.policy import allowed_hosts, classes, policy
from embedding_operator.policy.provider import Provider
from embedding_operator.policy.reference import Literal, Reference, SecretReference

HOST_NOT_ALLOWED: Final = "HostNotAllowed"
SECRET_OF_OPERATOR: Final = "SecretOfOperator"  # noqa: S105 - a reason, no secret
SECRET_NOT_USABLE: Final = "SecretNotUsable"  # noqa: S105 - a reason, no secret
USABLE: Final = "true"
_REFUSALS_SHOWN: Final = 5
_REDIS_ENTRIES: Final = (names.SECRET_CACHE_REDIS_URL, names.SECRET_QUOTA_REDIS_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A forbidden URL of a policy.

    `field` is its place, `entry` the entry of the owned Secret that would be sent there.
    """

    field: str
    entry: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderGuard:
    """Both guards; an empty `allowed` allows every host."""

    require_secret_label: bool = False
    allowed: allowed_hosts.AllowedHosts = field(default_factory=allowed_hosts.AllowedHosts)

    def verdict(self) -> conditions.Verdict:
        """Condition ProvidersGuarded."""
        if not (self.require_secret_label or self.allowed):
            message = (
                "providers.requireSecretLabel and providers.allowedHosts of the chart are both off:"
                " anyone who may write this policy can send any Secret of this namespace to any"
                " host."
            )
            return conditions.Verdict("False", "NotGuarded", message)
        secrets = (
            f"only Secrets with the label {names.LABEL_USABLE}={USABLE} may be named"
            if self.require_secret_label
            else "any Secret of this namespace may be named (providers.requireSecretLabel is off)"
        )
        called = (
            f"only these hosts may be called: {self.allowed}"
            if self.allowed
            else "any host may be called (providers.allowedHosts is off)"
        )
        return conditions.Verdict("True", "Guarded", f"In policies {secrets}, and {called}.")

    def refusals(self, wanted: policy.EmbeddingPolicy) -> tuple[Refusal, ...]:
        """The forbidden URLs of a policy, with those built in."""
        found = []
        for where, url, entry in _urls(wanted):
            reason = self.allowed.refusal(url)
            if reason is not None:
                message = f"{where}: {reason}{_way_out(where)}"
                found.append(Refusal(field=where, entry=entry, message=message))
        return tuple(found)

    def check(self, wanted: policy.EmbeddingPolicy) -> None:
        """Refuse a policy with a forbidden URL.

        Raises:
            errors.InvalidPolicy: the message names each field and its host.
        """
        refusals = self.refusals(wanted)
        if refusals:
            told = "; ".join(it.message for it in refusals[:_REFUSALS_SHOWN])
            message = (
                f"{told}. providers.allowedHosts of the chart has {self.allowed}; name one of"
                " these, or have the administrator add the host"
            )
            raise errors.InvalidPolicy("", message, reason=HOST_NOT_ALLOWED)

    def secret_refusal(
        self, found: Mapping[str, Any], reference: SecretReference
    ) -> errors.Problem | None:
        """The reason why a policy or an index may not name this Secret; None if it may.

        Never one that the operator fills for sidecars: its values may be the platform's.
        """
        labels = found["metadata"].get("labels") or {}
        if _is_of_operator(reference.name, labels, (found.get("data") or {}).keys()):
            message = (
                f"{reference} may not be used: the operator fills Secret {reference.name} for the"
                " sidecars of a policy; name the Secret that the value comes from"
            )
            return errors.Problem(SECRET_OF_OPERATOR, message)
        if not self.require_secret_label or labels.get(names.LABEL_USABLE) == USABLE:
            return None
        message = (
            f"{reference} may not be used: the Secret lacks the label"
            f" {names.LABEL_USABLE}={USABLE}, which providers.requireSecretLabel of the chart"
            f" requires; set it on Secret {reference.name} if policies may send its values to the"
            " addresses they name"
        )
        return errors.Problem(SECRET_NOT_USABLE, message)

    def value_refusal(
        self,
        wanted: policy.EmbeddingPolicy,
        entry: str,
        value: bytes,
        *,
        reference: Reference,
    ) -> errors.Problem | None:
        """The reason why a value may not be sent to its address; None if it may.

        The message does not quote the value: the policy's author may not be allowed to read it.
        """
        called = {
            names.secret_provider_key(it.name): _Called(it.kind, it.called_at or "")
            for it in wanted.providers
        }
        if self.allowed.allows(_destination(called, entry, value)):
            return None
        what = (
            "is not a URL of an allowed host"
            if entry in _REDIS_ENTRIES
            else f"belongs to a host that is not allowed ({document.ATLAS_BASE_URL})"
        )
        message = f"{entry}: {reference} {what}; providers.allowedHosts has {self.allowed}"
        return errors.Problem(HOST_NOT_ALLOWED, message)

    def withdrawn(
        self, held: Mapping[str, bytes], in_force: document.PolicyDocument | None
    ) -> frozenset[str]:
        """Entries of an owned Secret that `in_force` sends to a host no longer allowed.

        Without those of classes, whose addresses the platform's team writes.
        """
        if not self.allowed or in_force is None:
            return frozenset()
        called = _called(in_force)
        return frozenset(
            entry
            for entry in (*called, *_REDIS_ENTRIES)
            if entry in held and not self.allowed.allows(_destination(called, entry, held[entry]))
        )


def moved(before: document.PolicyDocument | None, made: document.PolicyDocument) -> frozenset[str]:
    """Entries of the owned Secret that `made` sends to another provider than `before` did.

    Where their new value cannot be read yet, the one that they have is the other provider's.
    Without those of classes, whose addresses the platform's team writes.
    """
    known = {} if before is None else _called(before)
    return frozenset(entry for entry, to in _called(made).items() if known.get(entry, to) != to)


OFF: Final = ProviderGuard()
"""No guard: policies may name every Secret of the namespace and call every host."""


def _is_of_operator(name: str, labels: Mapping[str, str], held: Iterable[str]) -> bool:
    is_ours = labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
    return (is_ours and name.startswith(names.OPERATOR_PREFIX)) or any(
        it.startswith(names.CLASS_PREFIXES) for it in held
    )


class _Called(NamedTuple):
    """A provider's type and base URL."""

    kind: str
    base_url: str


def _called(made: document.PolicyDocument) -> dict[str, _Called]:
    """The providers by the entry of their key, without those of classes."""
    return {
        it.api_key_file: _Called(it.kind, it.base_url)
        for it in made.providers
        if it.api_key_file is not None and classes.of_entry(it.api_key_file) is None
    }


def _destination(called: Mapping[str, _Called], entry: str, value: bytes) -> str:
    """The URL that receives an entry of the owned Secret; a Redis URL is its own."""
    text = value.decode(errors="replace").strip()  # as a sidecar reads the file
    if entry not in called:
        return text
    kind, base_url = called[entry]
    return document.called_url(kind=kind, base_url=base_url, api_key=text)


def _urls(wanted: policy.EmbeddingPolicy) -> list[tuple[str, str, str | None]]:
    """Each URL with its field and the entry of the owned Secret that it receives."""
    found: list[tuple[str, str, str | None]] = []
    for index, provider in enumerate(wanted.providers):
        found += _urls_of_provider(provider, f"spec.providers[{index}]")
    if wanted.passthrough_base_url is not None:
        found.append(("spec.passthrough.baseURL", wanted.passthrough_base_url, None))
    for part, redis, entry in (
        ("cache", wanted.cache.redis, names.SECRET_CACHE_REDIS_URL),
        ("quota", wanted.quota.redis, names.SECRET_QUOTA_REDIS_URL),
    ):
        if isinstance(redis, Literal):
            found.append((f"spec.{part}.redis.url", redis.value, entry))
    return found


def _urls_of_provider(provider: Provider, path: str) -> list[tuple[str, str, str | None]]:
    if not provider.is_complete or provider.ref is not None:
        return []  # the platform's team wrote the address of a class
    where, url = f"{path}.baseURL", provider.called_at or ""
    if provider.base_url is None:
        where = f"{where} (left out, so {url})"
    entry = names.secret_provider_key(provider.name) if provider.api_key else None
    found: list[tuple[str, str, str | None]] = [(where, url, entry)]
    if provider.azure is not None and provider.azure.tenant_id is not None:
        # It receives a token of the pod's ServiceAccount.
        found.append((f"{path}.azure.authority", provider.azure.authority, None))
    return found


def _way_out(where: str) -> str:
    if where == "spec.passthrough.baseURL":
        return " (or set spec.passthrough.enabled: false)"
    return ""
