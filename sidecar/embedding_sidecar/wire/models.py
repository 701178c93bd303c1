"""The policy's models as a caller sees them."""

from typing import Final

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.wire import wire

_VOYAGE: Final = "Voyage"


def owners(policy: document.PolicyDocument) -> dict[str, str]:
    """Every name a request may give as its model, and the provider it means."""
    found: dict[str, str] = {}
    for provider in policy.providers:
        for name in (provider.model, *provider.aliases):
            # As with a request, the first provider of that name is the one that is meant.
            found.setdefault(name, provider.name)
    return found


def owner(policy: document.PolicyDocument, name: str) -> str:
    """The provider that a name means.

    Raises:
        errors.Rejected: 404, naming the models there are.
    """
    found = owners(policy).get(name)
    if found is None:
        raise unknown(policy, name)
    return found


def unknown(policy: document.PolicyDocument, name: str) -> errors.Rejected:
    """The refusal of a model that no provider of the policy has."""
    return errors.Rejected(
        f"The model {name[: wire.MAX_NAME]!r} does not exist in this policy. "
        f"It allows {', '.join(owners(policy))}.",
        status=404,
        code="model_not_found",
        param="model",
    )


def of_voyage(policy: document.PolicyDocument) -> list[str]:
    """The names that mean a model of Voyage, which may be asked in Voyage's own words too."""
    voyage = {provider.name for provider in policy.providers if provider.kind == _VOYAGE}
    return [name for name, owner in owners(policy).items() if owner in voyage]


def passed_on(provider: document.Provider) -> frozenset[str]:
    """The fields of its own that requests to this provider may have."""
    return frozenset(it.name for it in provider.pass_through_fields)


def check(policy: document.PolicyDocument, asked: wire.Request) -> None:
    """Refuse fields that the model's provider does not pass on, as OpenAI refuses them.

    Likewise Voyage's own words where the model is not Voyage's.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    if asked.ask.extra:
        first = next((it for it in policy.providers if it.answers_to(asked.ask.model)), None)
        for name, _ in asked.ask.extra:
            if first is not None and name not in passed_on(first):
                raise wire.unrecognized(name)
    if not asked.voyage_keys:
        return
    if asked.ask.model in owners(policy) and asked.ask.model not in of_voyage(policy):
        raise wire.unrecognized(asked.voyage_keys[0])
