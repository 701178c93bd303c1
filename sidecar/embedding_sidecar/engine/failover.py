"""The providers that may answer a request, their order, and the error when none did."""

import bisect
import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeGuard

from embedding_contract import document, names, spaces
from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.openai_format import models, openai_json
from embedding_sidecar.translation import provider_api, vector_decoder

Fields = tuple[tuple[str, bytes], ...]
"""The form of Ask.extra."""
_SPACE_DIGITS: Final = 16

MAX_CANDIDATES: Final = 1024
"""Models and sizes whose candidates are known; callers choose the sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider that may answer requests for a model and a size, and the space it answers in.

    `dimensions` is the size it is asked for: the caller's, or the policy's. `vector_bytes` is
    the size of each of its vectors, None where only its answers show it. `label` is its label in
    metrics: the provider's type in lower case. `weight` is its part of the requests, None where it
    shares them with no other.
    """

    provider: document.Provider
    dimensions: int | None
    space: str
    label: str
    vector_bytes: int | None = None
    weight: int | None = None

    def made(self, entry: cache_entry.Entry) -> bool:
        """True if an entry that was found under a key of this candidate can be its own."""
        # The key implies all of this already; an entry that differs is no candidate's.
        return (
            entry.model == self.provider.model
            and entry.space == self.space
            and (self.vector_bytes is None or self.vector_bytes == len(entry.vector))
        )


def terms(candidate: Candidate, ask: provider_api.Ask) -> provider_api.Ask:
    """The caller's request with the model's name and the dimensions of a candidate."""
    model, dimensions = candidate.provider.model, candidate.dimensions
    if ask.model == model and ask.dimensions == dimensions:
        return ask
    return replace(ask, model=model, dimensions=dimensions)


def chooser(policy: document.PolicyDocument) -> Callable[..., Sequence[Candidate]]:
    """`candidates` of one policy, which are the same for all requests for a model and a size."""
    return functools.lru_cache(maxsize=MAX_CANDIDATES)(functools.partial(candidates, policy))


def candidates(
    policy: document.PolicyDocument, model: str, dimensions: int | None, extra: Fields = ()
) -> tuple[Candidate, ...]:
    """The providers that may answer, the first candidate first.

    That is the first one that answers to the model's name. Others follow down the list, if the
    policy allows failover at all: those of the same space, and all where it may cross spaces. All
    pass the further fields on. Those that share requests by weight are there without failover, too:
    see `drawn`.

    Raises:
        errors.Rejected: no provider answers to this name, or the first candidate has other
            dimensions, or does not pass a field on.
    """
    start = next((at for at, it in enumerate(policy.providers) if it.answers_to(model)), None)
    if start is None:
        raise models.unknown(policy, model)
    for name, _ in extra:
        if name not in models.passed_on(policy.providers[start]):
            raise openai_json.unrecognized(name)
    first = _candidate(policy.providers[start], dimensions, extra)
    if not _makes(first.provider, dimensions):
        raise errors.Rejected(
            f"This policy pins the dimensions of {model!r} to {first.provider.dimensions}.",
            param="dimensions",
        )
    others = [
        _candidate(it, dimensions, extra)
        for it in policy.providers[start + 1 :]
        if _makes(it, dimensions) and models.passed_on(it).issuperset([name for name, _ in extra])
    ]
    sharing = [
        it for it in (first, *others) if it.space == first.space and it.provider.answers_to(model)
    ]
    weights: dict[str, int] = {}
    if len(sharing) > 1 and any(it.provider.weight is not None for it in sharing):
        weights = {
            it.provider.name: 1 if it.provider.weight is None else it.provider.weight
            for it in sharing
        }
    crossing = policy.failover.enabled and policy.failover.across_spaces
    found = (
        it
        for it in (first, *others)
        if it is first
        or it.provider.name in weights
        or (policy.failover.enabled and (crossing or it.space == first.space))
    )
    return tuple(replace(it, weight=weights.get(it.provider.name)) for it in found)


def drawn(
    candidates: Sequence[Candidate], share: Callable[[], float], *, goes_on: bool
) -> Sequence[Candidate]:
    """The candidates of one request that the cache does not answer: the first is drawn by weight.

    A weight of 0 is drawn only where all have it, and the list then decides. The others follow in
    their order, if the request `goes_on` to them at all. `share` is a random number from 0 up to 1,
    drawn only where there are weights.
    """
    if candidates[0].weight is None:
        return candidates
    ends = list(itertools.accumulate(it.weight or 0 for it in candidates))
    at = bisect.bisect(ends, share() * ends[-1]) if ends[-1] else 0
    rest = (it for it in candidates if it is not candidates[at])
    return (candidates[at], *rest) if goes_on else (candidates[at],)


def equal_terms(one: Candidate, other: Candidate) -> bool:
    """True if both have the same keys in the cache for the same items."""
    return (one.space, one.provider.model, one.dimensions) == (
        other.space,
        other.provider.model,
        other.dimensions,
    )


def _space(chosen: document.Provider, dimensions: int | None, extra: Fields) -> str:
    """The provider's space; a field that changes it makes another one for each value."""
    space = chosen.space(dimensions)
    changing = {it.name for it in chosen.pass_through_fields if it.changes_space}
    of_fields = [(name, value) for name, value in extra if name in changing]
    if not of_fields:
        return space
    digest = hashlib.sha256(repr(of_fields).encode()).hexdigest()[:_SPACE_DIGITS]
    return f"{space}?{','.join(name for name, _ in of_fields)}={digest}"


def _candidate(chosen: document.Provider, dimensions: int | None, extra: Fields) -> Candidate:
    asked = dimensions or chosen.dimensions
    size = asked or _vendors_own(chosen)
    return Candidate(
        provider=chosen,
        dimensions=asked,
        space=_space(chosen, dimensions, extra),
        label=chosen.kind.lower(),
        vector_bytes=None if size is None else size * vector_decoder.BYTES_PER_NUMBER,
    )


def _vendors_own(chosen: document.Provider) -> int | None:
    """The dimensions at the vendor's own server; another server may make others for the name."""
    if chosen.base_url != document.DEFAULT_BASE_URLS.get(chosen.kind):
        return None
    return spaces.default_dimensions(kind=chosen.kind, model=chosen.model)


def _makes(chosen: document.Provider, dimensions: int | None) -> bool:
    return dimensions is None or chosen.dimensions in (None, dimensions)


Failure = errors.ProviderFailed | errors.Rejected

_RETRYABLE: Final = (errors.RateLimited, errors.Unreachable)
_SHOWN_WORDS: Final = 300


def is_key_refused(failure: Exception) -> TypeGuard[errors.ConfigurationError]:
    """True if it says that the provider refuses the key."""
    return isinstance(failure, errors.ConfigurationError) and failure.reason == errors.KEY_REFUSED


def is_own_rate(failure: BaseException) -> TypeGuard[errors.RateLimited]:
    """True if it says that the policy's own limit of a minute let no call go."""
    return isinstance(failure, errors.RateLimited) and failure.reason == errors.OWN_RATE


def ignores_dimensions(candidate: Candidate, numbers: int) -> errors.Rejected:
    """The refusal of a size that a server does not make because it ignores `dimensions`."""
    makes = f"vectors of {numbers} numbers" if numbers else "vectors of another size"
    return errors.Rejected(
        f"The server of provider {candidate.provider.name!r} ignores 'dimensions': it makes "
        f"{makes}, where {candidate.dimensions} were asked for. Leave 'dimensions' out.",
        param="dimensions",
    )


def over_rate(candidate: Candidate, place: int, tokens: int) -> errors.UnsupportedInput:
    """The failure of an item that may have more tokens than a minute has for the provider."""
    return errors.UnsupportedInput(
        "over_rate",
        obstacle=f"'input[{place}]' may have more than {tokens} tokens, which this policy allows "
        f"for provider {candidate.provider.name!r} in a minute.",
    )


def too_long(candidate: Candidate, place: int, tokens: int) -> errors.Rejected:
    """The refusal of an item that has more tokens than the policy says the provider takes."""
    return errors.Rejected(
        f"'input[{place}]' has more than {tokens} tokens, the most that provider "
        f"{candidate.provider.name!r} takes of an item.",
        param="input",
    )


def final_error(
    failures: Mapping[str, Failure], *, policy: document.PolicyDocument
) -> errors.Refused:
    """The error when no provider answered: `failures` by provider, in the order they were tried.

    An unsupported or rejected request counts as such only where all providers say so: another
    one, asked again later, may answer. Likewise the platform's refusal.
    """
    reasons = "; ".join(f"{name}: {_reason(it)}" for name, it in failures.items())
    failed = {
        name: it
        for name, it in failures.items()
        if isinstance(it, errors.ProviderFailed) and not isinstance(it, errors.UnsupportedInput)
    }
    refusals = [it.refusal for it in failed.values() if isinstance(it, errors.NotGranted)]
    if len(refusals) == len(failed):
        return refusals[0] if refusals else _rejection(failures)
    waits = [it.retry_after_seconds for it in failed.values() if it.retry_after_seconds is not None]
    wait = min(waits, default=None)
    kinds = {type(it) for it in failed.values()}
    if kinds == {errors.OutOfCredit}:
        return errors.Unavailable(
            f"The credit of every provider that may answer is used up ({reasons}).",
            code="provider_credit_exhausted",
            status=429,
            kind="insufficient_quota",
            should_retry=False,
        )
    if kinds <= {errors.RateLimited, errors.OutOfCredit, errors.NotGranted}:
        return errors.Unavailable(
            f"Every provider that may answer is used up ({reasons}).",
            code="rate_limit_exceeded",
            status=429,
            retry_after_seconds=wait,
            kind="requests",
        )
    # A retry would pay again for an answer that cannot be used.
    is_paid = errors.Unusable in kinds or errors.WrongSize in kinds
    is_vain = is_paid or not any(isinstance(it, _RETRYABLE) for it in failed.values())
    if kinds != {errors.ConfigurationError}:
        return errors.Unavailable(
            f"No provider that may answer gave vectors that can be used ({reasons}).",
            code="all_providers_failed",
            status=502,
            retry_after_seconds=None if is_vain else wait,
            should_retry=False if is_vain else None,
        )
    missing = next((name for name, it in failed.items() if it.reason == errors.KEY_MISSING), None)
    if missing is not None:
        return errors.Unavailable(_key_missing(missing, policy), code="provider_key_missing")
    return errors.Unavailable(
        f"No provider that may answer is set up rightly ({reasons}).",
        code="all_providers_failed",
        status=502,
        should_retry=False,
    )


def _reason(failure: Failure) -> str:
    """The reason of a failure, with the provider's words; in ours for unsupported input."""
    if isinstance(failure, errors.Rejected):
        return f"rejected: {failure.message[:_SHOWN_WORDS]}"
    if isinstance(failure, errors.UnsupportedInput):
        words = failure.obstacle
    else:
        words = failure.words[:_SHOWN_WORDS]
    return ": ".join(filter(None, (failure.reason, words.rstrip("."))))


def _rejection(failures: Mapping[str, Failure]) -> errors.Rejected:
    """The rejection by the first provider, in its words or ours."""
    first = next(iter(failures.values()))
    if isinstance(first, errors.UnsupportedInput):
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
