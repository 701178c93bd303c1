"""Who may answer a request, in which order, and who has failed of late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from embedding_contract import document, names
from embedding_sidecar import errors, provider

FAILURES_TO_OPEN: Final = 3
OPEN_SECONDS: Final = 10.0
KEY_MISSING: Final = "key_missing"
"""The reason of errors.Misconfigured where we have no key to send."""


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
        raise errors.Rejected(
            f"The model {ask.model!r} does not exist in this policy. "
            f"It allows {', '.join(_models(policy))}.",
            status=404,
            code="model_not_found",
            param="model",
        )
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
    return Choice(
        provider=candidate,
        ask=replace(ask, model=candidate.model, dimensions=ask.dimensions or candidate.dimensions),
        space=candidate.space(ask.dimensions),
    )


def _makes(candidate: document.Provider, ask: provider.Ask) -> bool:
    return ask.dimensions is None or candidate.dimensions in (None, ask.dimensions)


def _models(policy: document.PolicyDocument) -> list[str]:
    return list(dict.fromkeys(name for it in policy.providers for name in (it.model, *it.aliases)))


class Breaker:
    """Tries last, for a while, whoever failed several times in a row."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._open_until: dict[str, float] = {}

    def order(self, choices: Sequence[Choice], *, now: float) -> list[Choice]:
        """The choices in the order to try them; nobody is left out."""
        return sorted(choices, key=lambda choice: self.is_open(choice.provider.name, now=now))

    def is_open(self, name: str, *, now: float) -> bool:
        """Whether this provider is tried last at present."""
        return now < self._open_until.get(name, now)

    def succeeded(self, name: str) -> None:
        """The provider answered."""
        self._failures.pop(name, None)
        self._open_until.pop(name, None)

    def failed(self, name: str, *, now: float) -> None:
        """The provider did not answer."""
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._failures[name] >= FAILURES_TO_OPEN:
            self._open_until[name] = now + OPEN_SECONDS


Failure = errors.ProviderFailed | errors.Rejected


def verdict(failures: Mapping[str, Failure], *, policy: document.PolicyDocument) -> errors.Refused:
    """What the caller is told when nobody answered.

    A provider that cannot take the request counts only where all say so: another one, asked again
    later, may.

    Args:
        failures: why, by provider, in the order they were tried.
        policy: whose providers they are.
    """
    failed = {name: it for name, it in failures.items() if isinstance(it, errors.ProviderFailed)}
    if not failed:
        return next(it for it in failures.values() if isinstance(it, errors.Rejected))
    reasons = "; ".join(f"{name}: {it.reason}" for name, it in failed.items())
    exhausted = [it for it in failed.values() if isinstance(it, errors.Exhausted)]
    if len(exhausted) == len(failed):
        waits = [it.retry_after_seconds for it in exhausted if it.retry_after_seconds is not None]
        return errors.Unavailable(
            f"Every provider that may answer is used up ({reasons}).",
            code="rate_limit_exceeded",
            status=429,
            retry_after_seconds=min(waits, default=None),
        )
    if not all(isinstance(it, errors.Misconfigured) for it in failed.values()):
        message = f"No provider that may answer could be reached ({reasons})."
        return errors.Unavailable(message, code="all_providers_failed", status=502)
    missing = next((name for name, it in failed.items() if it.reason == KEY_MISSING), None)
    if missing is not None:
        return errors.Unavailable(_key_missing(missing, policy), code="provider_key_missing")
    return errors.Unavailable(
        f"No provider that may answer is set up rightly ({reasons}).", code="all_providers_failed"
    )


def _key_missing(name: str, policy: document.PolicyDocument) -> str:
    if not policy.namespace:
        return f"The API key of provider {name!r} is not set."
    return (
        f"The API key of provider {name!r} (key {names.secret_provider_key(name)!r} of Secret "
        f"{names.owned_secret(policy.name)!r}) has not been synced yet; "
        f"see `kubectl describe embpol {policy.name}`."
    )
