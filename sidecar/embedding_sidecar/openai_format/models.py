"""The policy's models, by the names that callers use."""

from typing import Final

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.openai_format import openai_json

_VOYAGE: Final = "Voyage"


def owners(policy: document.PolicyDocument) -> dict[str, str]:
    """Every name of a model that a request may have, and its provider."""
    found: dict[str, str] = {}
    for provider in policy.providers:
        for name in (provider.model, *provider.aliases):
            # The first provider of a name is the first candidate of a request.
            found.setdefault(name, provider.name)
    return found


def owner(policy: document.PolicyDocument, name: str) -> str:
    """The provider of a model's name. Raises errors.Rejected: 404, with the policy's models."""
    found = owners(policy).get(name)
    if found is None:
        raise unknown(policy, name)
    return found


def unknown(policy: document.PolicyDocument, name: str) -> errors.Rejected:
    """The refusal of a model that no provider of the policy has."""
    return errors.Rejected(
        f"The model {name[: openai_json.MAX_NAME]!r} does not exist in this policy. "
        f"The policy has: {', '.join(owners(policy))}.",
        status=404,
        code="model_not_found",
        param="model",
    )


def of_voyage(policy: document.PolicyDocument) -> list[str]:
    """The names of Voyage's models, whose requests may have Voyage's own fields."""
    voyage = {provider.name for provider in policy.providers if provider.kind == _VOYAGE}
    return [name for name, owner in owners(policy).items() if owner in voyage]


def passed_on(provider: document.Provider) -> frozenset[str]:
    """The provider's own fields that requests may have."""
    return frozenset(it.name for it in provider.pass_through_fields)


def check(policy: document.PolicyDocument, asked: openai_json.Request) -> None:
    """Refuse unknown fields that the model's provider does not get, and Voyage's for other models.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    if asked.ask.extra:
        first = next((it for it in policy.providers if it.answers_to(asked.ask.model)), None)
        for name, _ in asked.ask.extra:
            if first is not None and name not in passed_on(first):
                raise openai_json.unrecognized(name)
    if not asked.voyage_keys:
        return
    if asked.ask.model in owners(policy) and asked.ask.model not in of_voyage(policy):
        raise openai_json.unrecognized(asked.voyage_keys[0])
