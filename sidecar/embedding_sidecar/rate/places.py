"""Where the limits per minute of a policy's providers are counted, and how much they allow."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from embedding_contract import class_keys, document, provider_terms
from embedding_sidecar.rate import window
from embedding_sidecar.rate.window import Drawn, Message, Terms


class Store(Protocol):
    """The windows that pods share."""

    async def draw(self, message: Message) -> Drawn:
        """Carry a message out; raises errors.StoreAway."""


class Place(NamedTuple):
    """A window: its key in a store, None where this pod counts alone, and its limits.

    `may_go_alone`: this pod counts alone while the store is away.
    """

    key: str
    store: Store | None
    terms: Terms
    may_go_alone: bool


def has_any(policy: document.PolicyDocument) -> bool:
    """True if the policy, or a class of one of its providers, states a rate."""
    of_providers = [it.rate for it in policy.providers]
    stated = of_providers + [it.rate for it in policy.classes]
    return any(it != provider_terms.NO_RATE for it in stated)


def of(
    policy: document.PolicyDocument,
    *,
    store: Store | None,
    of_classes: Mapping[str, Store | None] = MappingProxyType({}),
) -> Mapping[str, list[Place]]:
    """The windows of the providers for which the policy or their class states a rate, by name.

    The policy's are counted in `store`; in each pod alone, where there is none. A class's window is
    that of all policies, in the class's own Redis of `of_classes`: without it no call is made.
    """
    rated = {it.name: it for it in policy.classes if it.rate != provider_terms.NO_RATE}
    found: dict[str, list[Place]] = {}
    for it in policy.providers:
        made = []
        if it.rate != provider_terms.NO_RATE:
            made.append(_of_policy(policy, it, store))
        if it.class_name is not None and it.class_name in rated:
            made.append(_of_class(rated[it.class_name], of_classes.get(it.class_name)))
        if made:
            found[it.name] = made
    return found


def _of_policy(
    policy: document.PolicyDocument, provider: document.Provider, store: Store | None
) -> Place:
    kept = policy.quota
    return Place(
        window.key(policy.scope, provider.name),
        store,
        Terms(
            provider.rate.requests_per_minute,
            provider.rate.tokens_per_minute,
            kept.reserved_percent,
            kept.observes,
        ),
        may_go_alone=store is None or kept.observes or not kept.deny_on_store_loss,
    )


def _of_class(found: document.ProviderClass, store: Store | None) -> Place:
    return Place(
        class_keys.window(found.name),
        store,
        Terms(
            found.rate.requests_per_minute,
            found.rate.tokens_per_minute,
            found.quota.reserved_percent,
        ),
        may_go_alone=False,
    )
