"""The limits per minute of a policy's providers, and the way of a call through them.

A call is drawn from the policy's window of its provider, then from that of its class. An earlier
draw is given back where a later one is refused, or waited for so long that the earlier one is not
fresh any more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from embedding_contract import class_keys
from embedding_sidecar import errors
from embedding_sidecar.rate.draws import Draw, Draws
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.stock import Lot
from embedding_sidecar.rate.window import Need, most


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


@dataclass(slots=True, eq=False, repr=False)
class Permit:
    """A call that was drawn ahead from each window of a provider; a Passage that has ended."""

    taken: Sequence[tuple[Draws, Lot, int]]
    """The window, the lot and the tokens of each."""
    waited_seconds: float = 0.0
    beyond: frozenset[str] = frozenset()

    def leave(self) -> None:
        """Give all back that was not spent."""
        for window, lot, tokens in self.taken:
            window.put_back(lot, calls=1, tokens=tokens)

    def settle(self, *, tokens: int) -> None:
        """Give back the tokens of a call that was sent which it was not billed for."""
        for window, lot, drawn in self.taken:
            if drawn > tokens:
                window.put_back(lot, calls=0, tokens=drawn - tokens)


class ProviderRate:
    """The windows of one provider: the policy's, then its class's; an edit makes another one."""

    def __init__(self, windows: Sequence[Draws], *, clock: Callable[[], float]) -> None:
        self._windows = windows
        self._clock = clock
        self._most_tokens = tuple(_most_tokens(windows, background=it) for it in (False, True))

    def take(self, *, tokens: int) -> Permit | None:
        """Take a call of an application that was drawn ahead; None where there is none for it."""
        taken: list[tuple[Draws, Lot, int]] = []
        for window in self._windows:
            counted = 0 if window.terms.tokens is None else tokens
            lot = window.take(counted)
            if lot is None:
                Permit(taken).leave()
                return None
            taken.append((window, lot, counted))
        return Permit(taken)

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
        return self._most_tokens[background]


def _most_tokens(windows: Sequence[Draws], *, background: bool) -> int | None:
    enforced = [it.terms for it in windows if not it.terms.observes]
    limits = [most(it, background=background)[1] for it in enforced]
    return min([it for it in limits if it is not None], default=None)


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
