"""Calls that are drawn ahead while a window is far from its limits, so that few need a message.

Pure, under the caller's clock in seconds. A stock is as large as the use of the last moments says,
and what is not used soon is given back: no other pod waits for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from embedding_sidecar.rate.window import Drawn, Need, Terms

MOST: Final = 1_024
"""Calls that are drawn ahead at the same time."""
PERIOD_SECONDS: Final = 0.1
"""The time whose calls are counted: twice as many are drawn ahead."""
LEAST_OF_PERIOD: Final = 8
"""With fewer calls in a period nothing is drawn ahead."""
KEPT_SECONDS: Final = 0.4
"""The time after which the rest of a lot is given back; well below window.FRESH_MS."""
FREE_SHARE: Final = 2
"""Nothing is drawn ahead once one part in so many of a limit is used."""
LEFT_SHARE: Final = 16
"""One part in so many of what is left up to there is drawn ahead: other pods draw, too."""


@dataclass(slots=True, eq=False)
class Lot:
    """The rest of what one message has drawn ahead."""

    bucket: int
    own_ms: int
    drawn_at: float
    _: KW_ONLY
    calls: int
    tokens: int
    is_over: bool = False
    """True once the rest is given back."""


class Stock:
    """The calls that this pod has drawn ahead from one window."""

    def __init__(self) -> None:
        self._lots: list[Lot] = []
        self._calls = 0
        self._wanted = self._free = 0
        self._began = 0.0
        self._used = self._used_tokens = 0
        """Calls and tokens since then."""
        self._of_period = self._tokens_of_call = 0
        """Calls of a period, and the tokens of one, by which more are drawn ahead."""

    def __bool__(self) -> bool:
        return bool(self._lots)

    @property
    def is_low(self) -> bool:
        """True if more is to be drawn ahead now."""
        return 0 < self._wanted >= 2 * self._calls

    def count(self, needs: Sequence[Need]) -> None:
        """These calls go without being drawn ahead."""
        self._used += len(needs)
        self._used_tokens += sum(it.tokens for it in needs)

    def need(self, *, now: float) -> Need | None:
        """The calls that the message of now is to draw ahead; None for none."""
        elapsed = now - self._began
        if self._used:
            self._tokens_of_call = -(-self._used_tokens // self._used)
        if elapsed >= PERIOD_SECONDS:
            self._of_period = round(self._used * PERIOD_SECONDS / elapsed)
            self._began, self._used, self._used_tokens = now, 0, 0
        else:
            self._of_period = max(self._of_period, self._used)
        self._want()
        calls = self._wanted - self._calls
        return Need(calls * self._tokens_of_call, calls=calls) if calls > 0 else None

    def learn(self, terms: Terms, drawn: Drawn) -> None:
        """Read from the answer to a message how far the limits are."""
        left = []
        if terms.calls is not None:
            left.append(terms.calls // FREE_SHARE - drawn.calls)
        if terms.tokens is not None:
            tokens = terms.tokens // FREE_SHARE - drawn.tokens
            left.append(tokens // max(1, self._tokens_of_call))
        is_far = left and not drawn.wait_ms and not terms.observes
        self._free = max(0, min(left)) // LEFT_SHARE if is_far else 0
        self._want()

    def _want(self) -> None:
        wanted = min(MOST, 2 * self._of_period, self._free)
        self._wanted = wanted if self._of_period >= LEAST_OF_PERIOD else 0

    def put(self, lot: Lot) -> None:
        """Keep what was drawn ahead."""
        self._lots.append(lot)
        self._calls += lot.calls

    def take(self, tokens: int, *, now: float) -> Lot | None:
        """Spend a call with so many tokens; None if none is there for it."""
        for lot in self._lots:
            if lot.calls and tokens <= lot.tokens and now < lot.drawn_at + KEPT_SECONDS:
                lot.calls -= 1
                lot.tokens -= tokens
                self._calls -= 1
                self._used += 1
                self._used_tokens += tokens
                return lot
        return None

    def put_back(self, lot: Lot, *, calls: int, tokens: int) -> bool:
        """Return a part of what was taken; False where the lot is over."""
        if lot.is_over:
            return False
        lot.calls += calls
        lot.tokens += tokens
        self._calls += calls
        return True

    def expired(self, *, now: float) -> Iterator[Lot]:
        """Take out the rests that are to be given back."""
        while self._lots and now >= self._lots[0].drawn_at + KEPT_SECONDS:
            lot = self._lots.pop(0)
            lot.is_over = True
            self._calls -= lot.calls
            yield lot

    def clear(self) -> None:
        """Forget all, which stays drawn, and draw nothing ahead for now."""
        for lot in self._lots:
            lot.is_over = True
        self._lots.clear()
        self._calls = self._wanted = self._free = 0
