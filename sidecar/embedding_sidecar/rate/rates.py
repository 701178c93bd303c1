"""The limits per minute of a policy's providers, and the way of a call through them.

A call is drawn from the policy's window of its provider, then from that of its class. An earlier
draw is given back where a later one is refused, or waited for so long that the earlier one is not
fresh any more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType

from embedding_contract import class_keys, document, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.rate import window as windows
from embedding_sidecar.rate.draws import Draw, Draws, Place, Store
from embedding_sidecar.rate.window import Need, Terms


@dataclass(slots=True, eq=False, repr=False)
class Passage:
    """A call's way through the windows of a provider; `told` gets this once it may be sent.

    Else it gets the reason, as a Draw does.
    """

    windows: Sequence[Draws]
    need: Need
    told: "Callable[[Passage | BaseException], None]"
    _: KW_ONLY
    clock: Callable[[], float]
    waits_until: float
    is_wanted: Callable[[], bool]
    observed: Callable[[str, str], None]
    began: float = 0.0
    waited_seconds: float = 0.0
    draws: list[Draw] = field(default_factory=list)
    """One for each window so far; the last one may still wait."""

    def begin(self) -> None:
        """Draw from the first window."""
        self.began = self.clock()
        self._next()

    def leave(self) -> None:
        """Stop waiting, and give all back; or give all back that was not spent."""
        for window, draw in zip(self.windows, self.draws, strict=False):
            if draw.is_told:
                window.give_back(draw, calls=1, tokens=draw.need.tokens)
            else:
                window.leave(draw)
        self.draws = []

    def settle(self, *, tokens: int) -> None:
        """Give back the tokens of a call that was sent which it was not billed for."""
        for window, draw in zip(self.windows, self.draws, strict=False):
            if draw.need.tokens > tokens:
                window.give_back(draw, calls=0, tokens=draw.need.tokens - tokens)
        self.draws = []

    def refusal(self) -> errors.RateLimited:
        """The failure of this call if it waits no longer."""
        return self.windows[max(0, len(self.draws) - 1)].refusal()

    @property
    def beyond(self) -> set[str]:
        """The limits that the call was beyond, as far as is known, where none is enforced."""
        return {unit for draw in self.draws for unit in draw.beyond}

    def _next(self) -> None:
        window = self.windows[len(self.draws)]
        # Tokens without a limit need not be counted, nor given back.
        tokens = 0 if window.terms.tokens is None else self.need.tokens
        draw = Draw(
            self.need._replace(tokens=tokens),
            self._drawn,
            since=self.began,
            waits_until=self.waits_until,
            is_wanted=self.is_wanted,
            observed=self.observed,
        )
        self.draws.append(draw)
        window.join(draw)

    def _drawn(self, outcome: Draw | BaseException) -> None:
        if not self.draws:
            # It has left, and given back what it was told of.
            return
        if isinstance(outcome, BaseException):
            self.draws.pop()
            self.leave()
            self.told(outcome)
        elif len(self.draws) < len(self.windows):
            self._next()
        elif any(draw.spend_by < self.clock() for draw in self.draws):
            self.leave()
            self._next()
        else:
            self.waited_seconds = self.clock() - self.began
            self.told(self)


class ProviderRate:
    """The windows of one provider: the policy's, then its class's."""

    def __init__(self, windows: Sequence[Draws], *, clock: Callable[[], float]) -> None:
        self._windows = windows
        self._clock = clock

    def draw(
        self,
        *,
        tokens: int,
        background: bool,
        waits_until: float,
        is_wanted: Callable[[], bool],
        observed: Callable[[str, str], None],
        told: Callable[[Passage | BaseException], None],
    ) -> Passage:
        """Draw for a call that takes at most so many tokens; `told` is called later, once.

        It gets the passage; or errors.RateLimited by `waits_until`, or sooner where nobody wants
        the call or the wait is known to be longer; or errors.Unavailable, where only the store
        knows, and it is away; or a fault of the program. `observed` gets `minute` and the unit of
        each limit that the call is beyond, where none is enforced: `requests` or `tokens`.
        """
        passage = Passage(
            self._windows,
            Need(tokens, background),
            told,
            clock=self._clock,
            waits_until=waits_until,
            is_wanted=is_wanted,
            observed=observed,
        )
        passage.begin()
        return passage

    def tokens(self, *, background: bool) -> int | None:
        """The most tokens that one call of this class may take; None without such a limit."""
        enforced = [it.terms for it in self._windows if not it.terms.observes]
        limits = [windows.most(it, background=background)[1] for it in enforced]
        return min([it for it in limits if it is not None], default=None)


def has_any(policy: document.PolicyDocument) -> bool:
    """True if the policy, or a class of one of its providers, states a rate."""
    of_providers = [it.rate for it in policy.providers]
    stated = of_providers + [it.rate for it in policy.classes]
    return any(it != provider_terms.NO_RATE for it in stated)


def places(
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
        windows.key(policy.scope, provider.name),
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


class Rates:
    """All windows of a policy in this pod; they outlive an edit of it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._draws: dict[str, Draws] = {}

    def obey(self, places: Mapping[str, Sequence[Place]]) -> Mapping[str, ProviderRate]:
        """The rates by provider's name, given its windows; apply other limits from now on.

        A policy's window that no provider has any more limits nothing, for the calls that still
        wait there. That of a class goes on as it is: it is other policies', too, and an edit by a
        tenant must not let all go at once.
        """
        named = {place.key: place for them in places.values() for place in them}
        for key, draws in list(self._draws.items()):
            if key not in named and not class_keys.is_window(key):
                draws.release()
                del self._draws[key]
        for key, place in named.items():
            draws = self._draws.setdefault(key, Draws(place, clock=self._clock))
            draws.obey(place)
        return {
            name: ProviderRate([self._draws[place.key] for place in them], clock=self._clock)
            for name, them in places.items()
            if them
        }

    async def close(self) -> None:
        """Draw no more."""
        for draws in self._draws.values():
            await draws.close()
