"""Complete the providers of a policy that name a ClusterEmbeddingProvider: pure.

A class decides on type, address, models and key; no field of a policy changes where its key is
sent. A value of a class stays in the owned Secret of a policy only as long as the namespace may use
the class and the document in force sends it where the class says: what cannot be decided is refused
(docs/decisions/037-a-platforms-providers.md).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.policy import provider, provider_class
from embedding_operator.policy.policy import EmbeddingPolicy, Unresolved
from embedding_operator.policy.provider import Provider
from embedding_operator.policy.provider_class import Model, ProviderClass
from embedding_operator.policy.reference import ClassReference

CLASS_MISSING: Final = "ClassMissing"
CLASS_FORBIDDEN: Final = "ClassForbidden"
CLASS_NOT_ACCEPTED: Final = "ClassNotAccepted"
CLASS_CHANGED: Final = "ClassChanged"
MODEL_MISSING: Final = "ModelMissing"
_SHOWN: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The classes as policies of one namespace may use them.

    `find` returns the object of a class. `labels` are the namespace's, None if they are not known.
    """

    namespace: str
    labels: Mapping[str, str] | None
    find: Callable[[str], Mapping[str, Any] | None]

    def get(self, name: str) -> ProviderClass:
        """The class of this name.

        Raises:
            errors.InvalidPolicy: there is none, it is not valid, or the namespace may not use it.
        """
        raw = self.find(name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            message = f"there is no ClusterEmbeddingProvider {name}"
            raise errors.InvalidPolicy("", message, reason=CLASS_MISSING)
        try:
            found = provider_class.parse(raw)
        except errors.InvalidPolicy:
            raise _not_accepted(name) from None
        if not found.allows(self.labels):
            message = (
                f"ClusterEmbeddingProvider {name} may not be used in namespace {self.namespace}:"
                " its namespaceSelector does not select the namespace's labels; the platform's team"
                " decides on both"
            )
            raise errors.InvalidPolicy("", message, reason=CLASS_FORBIDDEN)
        return found


def labels_of(namespace: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    """The labels of a namespace as the informers store it; None where they are not known."""
    if namespace is None or namespace["metadata"].get("labelsUnknown"):
        return None
    found: Mapping[str, str] = namespace["metadata"].get("labels") or {}
    return found


def resolve(wanted: EmbeddingPolicy, classes: Classes) -> EmbeddingPolicy:
    """The policy with complete providers.

    An entry whose class cannot be used stays incomplete, and `unresolved` says why: such a policy
    becomes no document.
    """
    providers, used = list[Provider](), dict[str, ProviderClass]()
    refused = list[Unresolved]()
    for index, entry in enumerate(wanted.providers):
        field, made = "ref", entry
        try:
            if entry.ref is not None:
                found = used[entry.ref] = classes.get(entry.ref)
                field = "model"
                model = _model(entry, found)
                field = "ref"
                made = _valid(complete(entry, found, model))
        except errors.InvalidPolicy as error:
            path = f"spec.providers[{index}].{field}"
            refused.append(Unresolved(path, str(error), error.reason))
        providers.append(made)
    conflict = _network_refusal(wanted) if used else None
    return replace(
        wanted,
        providers=tuple(providers),
        classes=tuple(used.values()),
        unresolved=next(iter(refused), conflict),
    )


def _not_accepted(name: str) -> errors.InvalidPolicy:
    message = f"ClusterEmbeddingProvider {name} is not valid; its condition Accepted says why"
    return errors.InvalidPolicy("", message, reason=CLASS_NOT_ACCEPTED)


def _valid(made: Provider) -> Provider:
    """A complete entry whose class has all that its type needs.

    Raises:
        errors.InvalidPolicy: it has not, and the policy's author cannot mend it.
    """
    try:
        provider.check(made, "spec")
    except errors.InvalidPolicy:
        raise _not_accepted(made.ref or "") from None
    return made


def _model(entry: Provider, found: ProviderClass) -> Model:
    """The model that an entry means.

    Raises:
        errors.InvalidPolicy: the class lacks it, or has several and the entry names none.
    """
    if not entry.model and len(found.models) == 1:
        return found.models[0]
    for it in found.models:
        if entry.model == it.name:
            return it
    offered = ", ".join(it.name for it in found.models[:_SHOWN])
    what = f"has no model {entry.model}" if entry.model else "has several models, so name one"
    message = f"ClusterEmbeddingProvider {found.name} {what}; it has {offered}"
    raise errors.InvalidPolicy("", message, reason=MODEL_MISSING)


def complete(entry: Provider, found: ProviderClass, model: Model) -> Provider:
    """An entry with the fields of its class."""
    azure = found.azure
    return replace(
        entry,
        kind=found.kind,
        model=model.name,
        aliases=tuple(dict.fromkeys((*entry.aliases, *model.aliases))),
        base_url=found.base_url,
        dimensions=model.dimensions,
        space=model.space,
        api_key=None if found.api_key is None else ClassReference(found.name),
        price_per_million_tokens=model.price_per_million_tokens,
        azure=None if azure is None else replace(azure, deployment=model.deployment or model.name),
        region=found.region,
    )


def _network_refusal(wanted: EmbeddingPolicy) -> Unresolved | None:
    if wanted.network is None:
        return None
    message = (
        "may not be set beside a provider with ref, as its proxy would receive the requests with"
        " the platform's key: remove it, or use a policy of its own for the other providers"
    )
    return Unresolved("spec.sidecar.network", message, "NetworkNotAllowed")


def check(found: ProviderClass) -> None:
    """Refuse a class whose limit in money has no price to count by, or that lacks a field.

    Raises:
        errors.InvalidPolicy: the message names the model.
    """
    for index, model in enumerate(found.models):
        made = complete(_entry(found.name), found, model)
        provider.check(made, "spec")
        if not found.limits_cost:
            continue
        path, price = f"spec.models[{index}].pricePerMillionTokens", provider.price(made)
        if price is None:
            message = (
                f"the price of {found.kind}/{model.name} is unknown, so spec.perPolicy cannot limit"
                ' its cost; write the US dollars of a million tokens, for example "0.02", or "0"'
            )
            raise errors.InvalidPolicy(path, message, reason="PriceUnknown")
        provider.check_price(made, price, path)


def _entry(name: str) -> Provider:
    return Provider(
        name=name,
        kind="",
        model="",
        aliases=(),
        base_url=None,
        dimensions=None,
        space=None,
        api_key=None,
        price_per_million_tokens=None,
        ref=name,
    )


def entries(wanted: EmbeddingPolicy) -> set[str]:
    """The entries of the owned Secret for the keys of all classes that a policy names."""
    return {names.secret_class_key(it.ref) for it in wanted.providers if it.ref is not None}


def withdrawn(
    held: Iterable[str], classes: Classes, *, in_force: document.PolicyDocument | None
) -> Mapping[str, errors.Problem | None]:
    """The values of classes that an owned Secret may not hold, and a problem of each.

    None where the document in force does not name the value.
    """
    found = dict[str, errors.Problem | None]()
    for entry in held:
        name = of_entry(entry)
        if name is None:
            continue
        try:
            permitted = classes.get(name)
        except errors.InvalidPolicy as error:
            message = f"{entry} is not in the Secret: {error}"
            found[entry] = errors.Problem(error.reason, message)
            continue
        sent_to = _destinations(entry, in_force)
        if not sent_to:
            found[entry] = None
        elif sent_to != {_destination(permitted)} or _limits(name, in_force) != [
            provider_class.to_document(permitted)
        ]:
            message = (
                f"{entry} is not in the Secret: the last accepted document has another address or"
                f" other limits than ClusterEmbeddingProvider {name} has now"
            )
            found[entry] = errors.Problem(CLASS_CHANGED, message)
    return found


def of_entry(entry: str) -> str | None:
    """The class that an entry of an owned Secret comes from; None for a policy's own."""
    for prefix in (names.CLASS_KEY_PREFIX, names.CLASS_REDIS_URL_PREFIX):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix)
    return None


def _destination(found: ProviderClass) -> tuple[str, str]:
    return found.kind, found.called_at or ""


def _destinations(entry: str, in_force: document.PolicyDocument | None) -> set[tuple[str, str]]:
    """Types and addresses of the providers that an entry is for, in a document."""
    if in_force is None:
        return set()
    of_redis = {it.name for it in in_force.classes if it.quota.redis_url_file == entry}
    return {
        (it.kind, it.base_url)
        for it in in_force.providers
        if it.api_key_file == entry or it.class_name in of_redis
    }


def _limits(name: str, in_force: document.PolicyDocument | None) -> list[document.ProviderClass]:
    return [it for it in (in_force.classes if in_force else ()) if it.name == name]
