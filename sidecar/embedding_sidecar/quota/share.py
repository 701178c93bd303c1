"""The share of one class of callers: the rest of a lease, and claims for more of it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from embedding_contract import money
from embedding_sidecar import errors
from embedding_sidecar.allowance import NO_LIMIT, Allowance
from embedding_sidecar.quota.claim_queue import ClaimQueue, Outcome, Told
from embedding_sidecar.quota.claims import NOTHING, Amounts, Limits
from embedding_sidecar.quota.counter import AWAY_SECONDS, Counter
from embedding_sidecar.quota.leases import Ledger, Reservation

IDLE_SECONDS: Final = 10.0
"""A share that was unused for this time releases its rest, for others to spend."""

_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """The period's limits, the part that is for others, and the rule while the store is away.

    With `observes` nothing is refused.
    """

    limits: Limits
    reserve: Amounts
    may_go_alone: bool
    observes: bool = False


class Share:
    """One class's share, closed until it obeys terms."""

    def __init__(self, ledger: Ledger, counter: Counter) -> None:
        self.ledger = ledger
        self._counter = counter
        self._books = counter.books
        self._clock = counter.clock
        self._terms: Terms
        self._queue = ClaimQueue()
        self._asking: asyncio.Task[None] | None = None
        self._spent_at = float("-inf")
        self._returning: asyncio.Task[None] | None = None
        self.giving_back: set[asyncio.Task[None]] = set()

    def obey(self, terms: Terms) -> None:
        """Change the terms. Spending stays spent; the rest of the lease is released."""
        self._terms = terms
        limits = terms.limits.without(terms.reserve)
        self.ledger.limit(limits, observes=terms.observes)

    def has(self, amounts: Amounts) -> bool:
        """True if this may be spent without asking the store."""
        return self.ledger.has(amounts, now=self._clock())

    def spend(self, amounts: Amounts, month: Reservation | None = None) -> Reservation:
        """Spend amounts that `has` found, and the same call's of the month."""
        self._spent_at = self._clock()
        return self.ledger.spend(amounts, month)

    def prepare(self, amounts: Amounts) -> None:
        """Claim what a later draw will need, while another period's claim is under way."""
        if self._asking is None and not self.has(amounts):
            self.draw(amounts, self._put_back)

    def _put_back(self, outcome: Outcome) -> None:
        if isinstance(outcome, Reservation):
            self.settle(outcome, cost=NOTHING)

    def draw(self, amounts: Amounts, done: Told) -> Callable[[], None] | None:
        """Draw, by the contract of PeriodQuota.draw."""
        self._spent_at = now = self._clock()
        self.ledger.is_drawn_from = True
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
                async with self._counter.claiming:
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
        ahead = 1 if self._counter.is_ending else self._counter.period.grant_calls
        claim = self.ledger.claim(amounts, ahead=ahead, now=self._clock())
        count = await self._counter.ask(self.ledger, claim)
        self._queue.serve(self._held)
        if count is None:
            self._queue.sift(lambda needed: self._held(needed) or self._alone(needed))
            return
        self._watch()
        # Unless the period ended between, or the limits have changed.
        if count.short and claim.number <= count.number and claim.limits == self.ledger.bounds:
            # A refusal holds for all that need as much: in a period that is used up, all that wait
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
        if self._counter.present > self.ledger.number:
            self._counter.start_present()
        others = NOTHING if self.ledger.is_open else self._books.others(self.ledger)
        outcome = self.ledger.spend_alone(amounts, others=others)
        return self._exhausted(outcome, amounts) if isinstance(outcome, str) else outcome

    def settle(self, reservation: Reservation, *, cost: Amounts) -> None:
        """Settle by the real cost, by the contract of Quota.settle; by NOTHING it is given back."""
        self.ledger.settle(reservation, cost=cost)
        if self._counter.is_ending:
            task = asyncio.get_running_loop().create_task(self.give_back())
            self.giving_back.add(task)
            task.add_done_callback(self.giving_back.discard)

    def left(self) -> Allowance:
        """The amounts that may still be drawn, by the store's last answer."""
        ledger = self.ledger
        if ledger.is_open:
            return NO_LIMIT
        number = ledger.number
        ends_in = self._books.ends_in_seconds(now=self._clock())
        if ends_in is None:
            number = max(number, self._counter.present)
            ends_in = self._counter.period.end_seconds(number) - self._counter.wall_clock()
        calls, tokens, cost_left = ledger.bounds
        calls_left, tokens_left = calls, tokens
        if number == ledger.number:
            calls_left, tokens_left, cost_left = ledger.left(others=self._books.others(ledger))
        return Allowance(calls, calls_left, tokens, tokens_left, ends_in, cost_left)

    async def close(self) -> None:
        """Release the rest. Calls in flight are settled, and release theirs, later."""
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        await self.give_back()

    async def give_back(self) -> None:
        """Release the rest of the lease. Never raises."""
        async with self._counter.claiming:
            if (
                await self._counter.ask(self.ledger, self.ledger.give_back()) is None
                and self._counter.store is not None
            ):
                _log.warning("quota: the unused calls of a lease could not be given back")

    def _watch(self) -> None:
        if not self._counter.is_ending and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return_when_idle())

    async def _return_when_idle(self) -> None:
        left = IDLE_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = self._spent_at + IDLE_SECONDS - self._clock()
        await self.give_back()

    def _exhausted(self, short: str, amounts: Amounts) -> errors.QuotaExhausted:
        limits, reserve, period = self._terms.limits, self._terms.reserve, self._counter.period
        reset_at = f"{period.end(self.ledger.number):%Y-%m-%dT%H:%M:%SZ}"
        taken = self._books.others(self.ledger) + self.ledger.used + amounts
        used_up = limits.short(taken)
        reserved = getattr(reserve, short)
        if reserved and not used_up:
            return errors.QuotaReserved(
                f"This policy has {_in_words(short, getattr(limits, short))} a {period.word}, of "
                f"which {_in_words(short, reserved, alone=False)} are reserved for applications; "
                "the rest is less than this background request needs. "
                f"The quota is renewed at {reset_at}.",
                left=self.left(),
            )
        short = used_up or short
        return errors.QuotaExhausted(
            f"This policy's {_in_words(short, getattr(limits, short))} a {period.word} are used "
            f"up, or the rest is less than this request needs. The quota is renewed at {reset_at}.",
            left=self.left(),
        )


def _in_words(unit: str, amount: int, *, alone: bool = True) -> str:
    """An amount and, where it stands alone, its unit."""
    if unit == "cost":
        whole, _, part = money.dollars(amount).partition(".")
        amount_words, unit = f"{whole}.{part:0<2}", "US dollars"
    else:
        amount_words = str(amount)
    return f"{amount_words} {unit}" if alone else amount_words
