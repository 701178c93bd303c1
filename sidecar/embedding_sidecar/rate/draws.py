"""The calls of this pod that wait for a window: first come, first served, applications first.

One message draws for all that wait, in order, up to the first that does not fit; calls that come
meanwhile wait behind. A call that comes while none waits may take one that was drawn ahead
(`stock`). The pod's own draws are counted here, too: that bounds it while Redis is away, and where
Redis has forgotten.
"""

import asyncio
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from embedding_contract import class_keys
from embedding_sidecar import errors
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.stock import Lot, Stock
from embedding_sidecar.rate.window import BUCKET_MS, FRESH_MS, Drawn, Message, Need, Terms, Window

AWAY_SECONDS: Final = 1.0
"""A store that did not answer is not asked for so long."""
LOOK_SECONDS: Final = 1.0
"""The longest time until the next message while calls wait: other pods may have given back."""
RETURN_SECONDS: Final = 0.1
"""Returned units go with the next draws, or alone after this time."""
MOST_AT_ONCE: Final = 64
"""Draws of one message."""
_OWN_BUCKET_MS: Final = 100
_OWN_WINDOW_MS: Final = 60_000
"""Shorter than the store's window by more than an answer takes, so that it binds only where the
store has forgotten."""
_FRESH_SECONDS: Final = FRESH_MS / 1000
_UNITS: Final = ("requests", "tokens")

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, repr=False)
class Draw:
    """A call that waits, or was drawn for; `told` gets this, or the reason why it may not go.

    That is errors.RateLimited, by `waits_until` or when the call is not wanted any more;
    errors.Unavailable, or of a class errors.NotGranted, if only the store knows; or a fault of the
    program. Times are in seconds, by the clock of Draws: it has waited `since` then. `beyond` names
    the limits that it exceeded, under Observe.
    """

    need: Need
    told: "Callable[[Draw | BaseException], None]"
    _: KW_ONLY
    since: float
    waits_until: float = math.inf
    is_wanted: Callable[[], bool] = lambda: True
    observed: Callable[[str, str], None] = lambda *_: None
    """Receives `minute` and each of `beyond`."""
    beyond: tuple[str, ...] = ()
    spend_by: float = -math.inf
    """From then on it is not spent any more, but given back and drawn again."""
    is_told: bool = False
    is_gone: bool = False
    bucket: int | None = None
    """Its place in the store; None where it has none."""
    own_ms: int | None = None
    """Its place in this pod's own window."""
    returned: tuple[int, int] = (0, 0)
    """Calls and tokens that were given back before the store had counted them."""


class Draws:
    """The queue of one window in this pod. `clock` is in seconds and never goes back."""

    def __init__(self, place: Place, *, clock: Callable[[], float]) -> None:
        self._place = place
        self._clock = clock
        self._pod = secrets.token_hex(8)
        self._sequence = 0
        self._applications: deque[Draw] = deque()
        self._background: deque[Draw] = deque()
        self._returns: dict[int, tuple[int, int]] = {}
        self._stock = Stock()
        self._own = Window(bucket_ms=_OWN_BUCKET_MS, window_ms=_OWN_WINDOW_MS)
        self._serving: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._ready_at: float | None = None
        """Time at which the first that waits fits, as far as is known; None if it may fit now."""
        self._failure: errors.StoreAway | None = None
        self._away_until = -math.inf
        self._moved_ms = -1

    @property
    def terms(self) -> Terms:
        """The limits in force."""
        return self._place.terms

    def obey(self, place: Place) -> None:
        """Apply other limits, or use another store, from now on. Earlier draws stay drawn."""
        if place == self._place:
            return
        if place.store is not self._place.store:
            self._away_until = -math.inf
            # Draws at another store leave its window by themselves.
            self._returns.clear()
            self._moved_ms = int(self._clock() * 1000)
        self._place = place
        self._stock.clear()
        self._wake.set()

    def release(self) -> None:
        """Limit nothing any more."""
        self.obey(Place(self._place.key, None, Terms(), may_go_alone=True))

    def take(self, tokens: int) -> Lot | None:
        """Take a call of an application that was drawn ahead; None where there is none for it."""
        if not self._stock or self._applications or self._background:
            return None
        lot = self._stock.take(tokens, now=self._clock())
        if lot is not None and self._stock.is_low:
            self._wake.set()
        return lot

    def put_back(self, lot: Lot, *, calls: int, tokens: int) -> None:
        """Return a part of what was taken."""
        if not self._stock.put_back(lot, calls=calls, tokens=tokens):
            self._give_back(lot.bucket, lot.own_ms, calls=calls, tokens=tokens)

    def join(self, draw: Draw) -> None:
        """Draw for a call, after those that have waited longer."""
        if self._place.terms.observes:
            # Nothing is delayed: it is counted meanwhile.
            draw.spend_by = math.inf
            _tell(draw, draw)
        elif self._ready_at is not None and draw.waits_until < self._ready_at:
            _tell(draw, self.refusal())
            return
        waiting = self._background if draw.need.background else self._applications
        place = len(waiting)
        while place and waiting[place - 1].since > draw.since:
            place -= 1
        waiting.insert(place, draw)
        if self._ready_at is None or not place:
            self._wake.set()
        self._serve_soon()

    def leave(self, draw: Draw) -> None:
        """Stop waiting; what is drawn for it all the same is given back."""
        draw.is_gone = True
        # It may have been the first.
        self._wake.set()

    def give_back(self, draw: Draw, *, calls: int, tokens: int) -> None:
        """Return a part of what was drawn."""
        if draw.own_ms is None:
            draw.returned = draw.returned[0] + calls, draw.returned[1] + tokens
            return
        self._give_back(draw.bucket, draw.own_ms, calls=calls, tokens=tokens)

    def _give_back(self, bucket: int | None, own_ms: int, *, calls: int, tokens: int) -> None:
        self._own.give_back(own_ms, calls=calls, tokens=tokens)
        if own_ms > self._moved_ms:
            self._return(bucket, calls=calls, tokens=tokens)
        if self._ready_at is not None:
            self._wake.set()
        self._serve_soon()

    def refusal(self) -> errors.RateLimited:
        """The failure of a call that does not wait any longer, with the time until one fits."""
        wait = 0.0 if self._ready_at is None else max(0.0, self._ready_at - self._clock())
        found = errors.RateLimited(errors.OWN_RATE, retry_after_seconds=wait)
        found.words = "the policy's limit of a minute is used up"
        return found

    async def close(self) -> None:
        """Stop; nobody is told any more."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def _return(self, bucket: int | None, *, calls: int, tokens: int) -> None:
        if bucket is not None:
            before = self._returns.get(bucket, (0, 0))
            self._returns[bucket] = before[0] + calls, before[1] + tokens

    def _serve_soon(self) -> None:
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        """Draw for those that wait, until none does and all is given back."""
        try:
            while True:
                self._wake.clear()
                self._return_stock()
                batch = self._first()
                if not batch and not self._stock.is_low:
                    self._ready_at = None
                    if not self._returns and not self._stock:
                        return
                    await self._sleep(RETURN_SECONDS)
                    self._return_stock()
                    batch = self._first()
                    if not batch and not self._returns and not self._stock.is_low:
                        continue
                wait = await self._draw(batch)
                if wait is None:
                    self._ready_at = None
                    continue
                self._ready_at = self._clock() + wait
                self._refuse(before=self._ready_at)
                await self._sleep(min(wait, LOOK_SECONDS, self._patience()))
        except Exception as fault:
            # No other task would draw for those that wait.
            for draw in self._waiting():
                draw.is_gone = True
                _tell(draw, fault)
            raise
        finally:
            self._serving = None

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _waiting(self) -> list[Draw]:
        """All that wait, in order; others leave the queue."""
        for waiting in (self._applications, self._background):
            for _ in range(len(waiting)):
                draw = waiting.popleft()
                if not draw.is_gone:
                    waiting.append(draw)
        return [*self._applications, *self._background]

    def _first(self) -> list[Draw]:
        """The first of those that wait; the others that do not wait any more are told so."""
        self._refuse(before=self._clock())
        waiting = self._waiting()
        while waiting and self._takes_from_stock(waiting[0]):
            del waiting[0]
        return waiting[:MOST_AT_ONCE]

    def _takes_from_stock(self, draw: Draw) -> bool:
        lot = None
        if not draw.need.background and not draw.is_told:
            lot = self._stock.take(draw.need.tokens, now=self._clock())
        if lot is None:
            return False
        draw.bucket, draw.own_ms = lot.bucket, lot.own_ms
        draw.spend_by = lot.drawn_at + _FRESH_SECONDS
        self._grant(draw)
        return True

    def _refuse(self, *, before: float) -> None:
        """Tell those that do not wait so long, and those that nobody wants any more."""
        for draw in self._waiting():
            if not draw.is_told and (draw.waits_until < before or not draw.is_wanted()):
                draw.is_gone = True
                _tell(draw, self.refusal())

    def _patience(self) -> float:
        """Seconds until the first of them does not wait any more."""
        ends = min((it.waits_until for it in self._waiting() if not it.is_told), default=math.inf)
        return max(0.0, ends - self._clock()) + 0.001

    async def _draw(self, batch: Sequence[Draw]) -> float | None:
        """Draw for these; seconds until the first that is left fits, None if it may fit now."""
        place, asked_at = self._place, self._clock()
        if place.store is None or asked_at < self._away_until:
            return self._draw_alone(batch)
        self._sequence += 1
        # Returned units that get lost with their message stay counted: they are never sent twice.
        returns, self._returns = self._returns, {}
        needs = [draw.need for draw in batch]
        ahead = self._stock.need(now=asked_at)
        if ahead is not None:
            needs.append(ahead)
        try:
            drawn = await place.store.draw(
                Message(place.key, self._pod, self._sequence, place.terms, needs, returns)
            )
        except errors.StoreAway as cause:
            if place.store is self._place.store:
                self._failed(cause)
            self._stock.clear()
            return self._draw_alone(batch)
        self._answered()
        if place == self._place:
            self._stock.learn(place.terms, drawn)
        return self._spend(batch, needs, drawn, place=place, asked_at=asked_at)

    def _spend(
        self,
        batch: Sequence[Draw],
        needs: Sequence[Need],
        drawn: Drawn,
        *,
        place: Place,
        asked_at: float,
    ) -> float | None:
        """Spend what was drawn, as far as it is fresh and this pod's own window allows it."""
        granted = needs[: drawn.granted]
        bucket = drawn.now_ms // BUCKET_MS if place.store is self._place.store else None
        now, spend_by = self._clock(), asked_at + _FRESH_SECONDS
        if now > spend_by:
            # They keep their places, and are drawn for again.
            for need in granted:
                self._return(bucket, calls=need.calls, tokens=need.tokens)
            return None
        own_ms = int(now * 1000)
        own = self._own.draw(granted, place.terms, now_ms=own_ms)
        refused = granted[own.granted :]
        for need in refused:
            # The store has forgotten: nothing is drawn ahead by what it says.
            self._stock.clear()
            self._return(bucket, calls=need.calls, tokens=need.tokens)
        for at, draw in enumerate(batch[: own.granted]):
            draw.bucket, draw.own_ms = bucket, own_ms
            draw.spend_by = spend_by
            if place.terms.observes:
                fits = (drawn.fit_calls, drawn.fit_tokens)
                draw.beyond = tuple(
                    unit for unit, most in zip(_UNITS, fits, strict=True) if at >= most
                )
                for unit in draw.beyond:
                    draw.observed("minute", unit)
            self._grant(draw)
        self._stock.count(needs[: min(own.granted, len(batch))])
        for ahead in granted[len(batch) : own.granted]:
            # One of a policy before an edit stays drawn, and is not used.
            if place == self._place and bucket is not None:
                lot = Lot(bucket, own_ms, asked_at, calls=ahead.calls, tokens=ahead.tokens)
                self._stock.put(lot)
        if own.granted >= len(batch):
            return None
        return (own.wait_ms if refused else drawn.wait_ms) / 1000

    def _return_stock(self) -> None:
        for lot in self._stock.expired(now=self._clock()):
            if lot.calls or lot.tokens:
                self._own.give_back(lot.own_ms, calls=lot.calls, tokens=lot.tokens)
                self._return(lot.bucket, calls=lot.calls, tokens=lot.tokens)

    def _draw_alone(self, batch: Sequence[Draw]) -> float | None:
        place = self._place
        if not place.may_go_alone:
            for draw in self._waiting():
                draw.is_gone = True
                _tell(draw, self._unavailable())
            return None
        own_ms = int(self._clock() * 1000)
        drawn = self._own.draw([draw.need for draw in batch], place.terms, now_ms=own_ms)
        for draw in batch[: drawn.granted]:
            draw.own_ms, draw.spend_by = own_ms, math.inf
            self._grant(draw)
        return None if drawn.granted == len(batch) else drawn.wait_ms / 1000

    def _grant(self, draw: Draw) -> None:
        """Tell the call that it may go; if it has left meanwhile, all is given back."""
        if draw.is_gone:
            draw.returned = 1, draw.need.tokens
        draw.is_gone = True
        if draw.returned != (0, 0):
            calls, tokens = draw.returned
            self.give_back(draw, calls=calls, tokens=tokens)
        else:
            _tell(draw, draw)

    def _unavailable(self) -> errors.Unavailable | errors.NotGranted:
        away = self._failure or errors.StoreAway()
        found = errors.Unavailable(
            f"Redis counts this policy's calls of a minute and {away.predicate}.",
            code="quota_store_unavailable",
            retry_after_seconds=AWAY_SECONDS,
        )
        # Other providers are not counted in a class's Redis.
        return errors.NotGranted(found) if class_keys.is_window(self._place.key) else found

    def _answered(self) -> None:
        if self._failure is not None:
            _log.info("rate: the store answers again")
        self._failure = None

    def _failed(self, cause: errors.StoreAway) -> None:
        before, self._failure = self._failure, cause.as_value()
        self._away_until = self._clock() + AWAY_SECONDS
        if before is None or str(before) != str(cause):
            level = logging.WARNING if type(cause) is errors.StoreAway else logging.ERROR
            _log.log(level, "rate: Redis %s: %s", cause.predicate, cause)


def _tell(draw: Draw, outcome: Draw | BaseException) -> None:
    # Called later, so that a further draw of the caller takes nothing from the calls behind it.
    if not draw.is_told:
        draw.is_told = True
        asyncio.get_running_loop().call_soon(draw.told, outcome)
