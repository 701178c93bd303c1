"""The share of one class of callers: the rest of a lease, and claims for more of it.

Applications and background work have a share each, so that neither spends the other's grants. Each
share has one queue of callers that wait for a claim.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.allowance import NO_LIMIT, Allowance
from embedding_sidecar.quota.books import Books
from embedding_sidecar.quota.claim_queue import ClaimQueue, Outcome, Told
from embedding_sidecar.quota.claims import DAY_SECONDS, NOTHING, Amounts, Limits
from embedding_sidecar.quota.counter import AWAY_SECONDS, Counter
from embedding_sidecar.quota.leases import GRANT_CALLS, Ledger, Reservation

IDLE_SECONDS: Final = 10.0
"""A share that was unused for this time releases its rest, for others to spend."""
_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """The day's limits, the part that is for others, and the rule while the store is away."""

    day: Limits
    reserve: Amounts
    may_go_alone: bool


class Share:
    """One class's share. `claiming` is held during a claim of any share; clocks are the quota's."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        books: Books,
        counter: Counter,
        claiming: asyncio.Lock,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.ledger = ledger
        self._books = books
        self._counter = counter
        self._claiming = claiming
        self._clock = clock
        self._wall_clock = wall_clock
        self._terms = Terms(Limits(0, 0), NOTHING, may_go_alone=False)
        self._limits = self._terms.day
        """Bounds of the sum of all leases when this share draws."""
        self._queue = ClaimQueue()
        self._asking: asyncio.Task[None] | None = None
        self._spent_at = float("-inf")
        self._returning: asyncio.Task[None] | None = None
        self.giving_back: set[asyncio.Task[None]] = set()
        self._closed = False

    def obey(self, terms: Terms) -> None:
        """Change the terms. Spending stays spent; the rest of the lease is released."""
        self._terms = terms
        self._limits = terms.day.without(terms.reserve)
        self.ledger.limit(self._limits)

    def draw(self, amounts: Amounts, done: Told) -> Callable[[], None] | None:
        """Call `done` with the outcome for a call: at once unless the store must be asked.

        The caller calls the returned callback when it no longer waits.
        """
        self._spent_at = now = self._clock()
        if self.ledger.has(amounts, now=now):
            done(self.ledger.spend(amounts))
            return None
        if not self._counter.is_there:
            done(self._alone(amounts))
            return None
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return self._queue.join(amounts, done).leave

    def _held(self, amounts: Amounts) -> Reservation | None:
        has = self.ledger.has(amounts, now=self._clock())
        return self.ledger.spend(amounts) if has else None

    async def _ask(self) -> None:
        """Claim for the first in the queue, then serve all that the lease covers; repeat."""
        try:
            while True:
                async with self._claiming:
                    # Callers may have released amounts meanwhile.
                    self._queue.serve(self._held)
                    amounts = self._queue.first()
                    if amounts is None:
                        return
                    await self._claim(amounts)
        except BaseException as fault:
            # No other task would claim for the calls that wait.
            self._queue.end(fault)
            raise
        finally:
            self._asking = None

    async def _claim(self, amounts: Amounts) -> None:
        ahead = 1 if self._closed else GRANT_CALLS
        claim = self.ledger.claim(amounts, ahead=ahead, now=self._clock())
        count = await self._counter.ask(self.ledger, claim)
        self._queue.serve(self._held)
        if count is None:
            self._queue.sift(lambda needed: self._held(needed) or self._alone(needed))
            return
        self._watch()
        # Unless midnight came between, or the limits have changed.
        if count.short and claim.day <= count.day and claim.limits == self._limits:
            # A refusal holds for all that need as much: in a day that is used up, all that wait
            # cost one claim and not one each.
            self._queue.sift(
                lambda needed: (
                    self._exhausted(count.short, needed) if needed.covers(amounts) else None
                )
            )

    def _alone(self, amounts: Amounts) -> Outcome:
        if not self._terms.may_go_alone:
            away = self._counter.failure or errors.StoreAway()
            return errors.Unavailable(
                f"Redis counts this policy's calls and {away.predicate}; the calls that it granted "
                "to this pod are used up.",
                code="quota_store_unavailable",
                retry_after_seconds=AWAY_SECONDS,
            )
        self._books.start_day_of(int(self._wall_clock() // DAY_SECONDS), now=self._clock())
        outcome = self.ledger.spend_alone(amounts, others=self._books.others(self.ledger))
        return self._exhausted(outcome, amounts) if isinstance(outcome, str) else outcome

    def settle(self, reservation: Reservation, *, cost: Amounts) -> None:
        """Replace the reserved amounts by the real cost.

        Never raises, and a second time changes nothing. After `end` it releases the rest, soon.
        """
        self.ledger.settle(reservation, cost=cost)
        if self._closed:
            task = asyncio.get_running_loop().create_task(self.give_back())
            self.giving_back.add(task)
            task.add_done_callback(self.giving_back.discard)

    def left(self) -> Allowance:
        """The amounts that may still be drawn, by the store's last answer."""
        if self._limits.open:
            return NO_LIMIT
        ends_in = self._books.ends_in_seconds(now=self._clock())
        day = self.ledger.day
        if ends_in is None:
            day = max(day, int(self._wall_clock() // DAY_SECONDS))
            ends_in = (day + 1) * DAY_SECONDS - self._wall_clock()
        if day == self.ledger.day:
            calls, tokens = self.ledger.left(others=self._books.others(self.ledger))
        else:
            calls, tokens = self._limits.calls, self._limits.tokens
        return Allowance(
            daily_requests=self._limits.calls,
            requests_left=calls,
            daily_tokens=self._limits.tokens,
            tokens_left=tokens,
            resets_in_seconds=ends_in,
        )

    @property
    def is_used(self) -> bool:
        """True if a call was ever drawn from it."""
        return self._spent_at > float("-inf")

    def end(self) -> None:
        """Hold nothing ahead from now on, and release the rest of each settling."""
        self._closed = True

    async def close(self) -> None:
        """Release the rest. Calls in flight are settled, and release theirs, later."""
        self.end()
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        await self.give_back()

    async def give_back(self) -> None:
        """Release the rest of the lease. Never raises."""
        async with self._claiming:
            if (
                await self._counter.ask(self.ledger, self.ledger.give_back()) is None
                and self._counter.store is not None
            ):
                _log.warning("quota: the unused calls of a lease could not be given back")

    def _watch(self) -> None:
        if not self._closed and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return_when_idle())

    async def _return_when_idle(self) -> None:
        left = IDLE_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = self._spent_at + IDLE_SECONDS - self._clock()
        await self.give_back()

    def _exhausted(self, short: str, amounts: Amounts) -> errors.QuotaExhausted:
        day, reserve, _ = self._terms
        reset_at = f"{midnight_after(self.ledger.day):%Y-%m-%dT%H:%M:%SZ}"
        taken = self._books.others(self.ledger) + self.ledger.used + amounts
        used_up = day.short(taken)
        reserved = reserve.calls if short == "calls" else reserve.tokens
        if reserved and not used_up:
            return errors.QuotaReserved(
                f"This policy has {_limit(day, short)} {short} a day, of which {reserved} are "
                "reserved for applications; the rest is less than this background request needs. "
                f"The quota is renewed at {reset_at}.",
                left=self.left(),
            )
        short = used_up or short
        return errors.QuotaExhausted(
            f"This policy's {_limit(day, short)} {short} a day are used up, or the rest is less "
            f"than this request needs. The quota is renewed at {reset_at}.",
            left=self.left(),
        )


def _limit(limits: Limits, short: str) -> int | None:
    return limits.calls if short == "calls" else limits.tokens


def midnight_after(day: int) -> datetime:
    """The end of a UTC day since 1970."""
    return datetime.fromtimestamp((day + 1) * DAY_SECONDS, tz=UTC)
