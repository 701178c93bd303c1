"""Who may answer a request, in which order, and what the caller is told when nobody did."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from embedding_contract import document, names
from embedding_sidecar import errors, provider
from embedding_sidecar.wire import models


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A provider that may answer a request, what it is asked and the space it answers in.

    `ask` is the caller's in this provider's terms: its name of the model, its pinned dimensions.
    """

    ask: provider.Ask
    space: str
    provider: document.Provider


def choices(policy: document.PolicyDocument, ask: provider.Ask) -> list[Choice]:
    """The providers that may answer, the first choice first.

    That is the first one that answers to the model's name. Others follow down the list, if the
    policy allows failover at all: those of the same space, and all where it may cross spaces.

    Raises:
        errors.Rejected: nobody answers to this name, or the first choice has other dimensions.
    """
    start = next((at for at, it in enumerate(policy.providers) if it.answers_to(ask.model)), None)
    if start is None:
        raise models.unknown(policy, ask.model)
    first = _choice(policy.providers[start], ask)
    if not _makes(first.provider, ask):
        raise errors.Rejected(
            f"This policy pins the dimensions of {ask.model!r} to {first.provider.dimensions}.",
            param="dimensions",
        )
    if not policy.failover.enabled:
        return [first]
    others = [_choice(it, ask) for it in policy.providers[start + 1 :] if _makes(it, ask)]
    crossing = policy.failover.across_spaces
    return [first, *(it for it in others if crossing or it.space == first.space)]


def _choice(candidate: document.Provider, ask: provider.Ask) -> Choice:
    dimensions = ask.dimensions or candidate.dimensions
    same = (ask.model, ask.dimensions) == (candidate.model, dimensions)
    return Choice(
        provider=candidate,
        ask=ask if same else replace(ask, model=candidate.model, dimensions=dimensions),
        space=candidate.space(ask.dimensions),
    )


def _makes(candidate: document.Provider, ask: provider.Ask) -> bool:
    return ask.dimensions is None or candidate.dimensions in (None, ask.dimensions)


Failure = errors.ProviderFailed | errors.Rejected


def label(choice: Choice) -> str:
    """What metrics call a provider: the lower-case word for its type."""
    return choice.provider.kind.lower()


def verdict(failures: Mapping[str, Failure], *, policy: document.PolicyDocument) -> errors.Refused:
    """What the caller is told when nobody answered.

    That a provider takes no such request counts only where all say so: another one, asked again
    later, may.

    Args:
        failures: why, by provider, in the order they were tried.
        policy: whose providers they are.
    """
    reasons = "; ".join(
        f"{name}: {it.reason if isinstance(it, errors.ProviderFailed) else 'rejected'}"
        for name, it in failures.items()
    )
    failed = {
        name: it
        for name, it in failures.items()
        if isinstance(it, errors.ProviderFailed) and not isinstance(it, errors.Unsuited)
    }
    if not failed:
        return _rejection(failures)
    waits = [it.retry_after_seconds for it in failed.values() if it.retry_after_seconds is not None]
    wait = min(waits, default=None)
    kinds = {type(it) for it in failed.values()}
    if kinds == {errors.Spent}:
        return errors.Unavailable(
            f"The credit of every provider that may answer is used up ({reasons}).",
            code="provider_credit_exhausted",
            status=429,
        )
    if kinds <= {errors.Exhausted, errors.Spent}:
        return errors.Unavailable(
            f"Every provider that may answer is used up ({reasons}).",
            code="rate_limit_exceeded",
            status=429,
            retry_after_seconds=wait,
        )
    if kinds != {errors.Misconfigured}:
        message = f"No provider that may answer could be reached ({reasons})."
        return errors.Unavailable(
            message, code="all_providers_failed", status=502, retry_after_seconds=wait
        )
    missing = next((name for name, it in failed.items() if it.reason == errors.KEY_MISSING), None)
    if missing is not None:
        return errors.Unavailable(_key_missing(missing, policy), code="provider_key_missing")
    return errors.Unavailable(
        f"No provider that may answer is set up rightly ({reasons}).", code="all_providers_failed"
    )


def _rejection(failures: Mapping[str, Failure]) -> errors.Rejected:
    """What the first provider that would not take the request says."""
    first = next(iter(failures.values()))
    if isinstance(first, errors.Unsuited):
        return errors.Rejected(first.obstacle, param="input")
    assert isinstance(first, errors.Rejected)  # noqa: S101 - nothing else is left
    return first


def _key_missing(name: str, policy: document.PolicyDocument) -> str:
    if not policy.namespace:
        return f"The API key of provider {name!r} is not set."
    return (
        f"The API key of provider {name!r} (key {names.secret_provider_key(name)!r} of Secret "
        f"{names.owned_secret(policy.name)!r}) has not been synced yet; "
        f"see `kubectl describe embpol {policy.name}`."
    )
