"""The policy's day: how many calls and tokens its pods may still spend.

A call is counted in the store before it is made; see `leases` for how, and decision 005 for why.
The day is UTC by the store's clock. A call belongs to the day it was reserved in.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.quotas.claims import DAY_SECONDS, NOTHING, Amounts, Limits
from embedding_sidecar.quotas.counter import AWAY_SECONDS, Counter, Store
from embedding_sidecar.quotas.leases import GRANT_CALLS, Ledger, Reservation
from embedding_sidecar.quotas.line import Line, Outcome, Told, Waiter
from embedding_sidecar.quotas.state import State

IDLE_SECONDS: Final = 10.0
"""A sidecar that spent nothing for this long gives its rest back, for other pods to spend."""
_log = logging.getLogger(__name__)


class Quota:
    """One sidecar's share in the policy's day.

    `clock` must never go back; what it shows while the machine sleeps only decides to which day a
    call is counted. `wall_clock` serves where no store tells the day.
    """

    def __init__(
        self,
        *,
        limits: document.Quota,
        scope: str,
        store: Store | None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._ledger = Ledger(scope=scope, lease=secrets.token_hex(8), limits=Limits(0, 0))
        self._terms: document.Quota | None = None
        self._counter = Counter(ledger=self._ledger, clock=clock)
        self.obey(limits, store=store)
        self._line = Line()
        self._asking: asyncio.Task[None] | None = None
        # Of claims one is under way at a time.
        self._lock = asyncio.Lock()
        self._spent_at = float("-inf")
        self._returning: asyncio.Task[None] | None = None
        self._giving_back: set[asyncio.Task[None]] = set()
        self._closed = False

    def obey(self, limits: document.Quota, *, store: Store | None) -> None:
        """Go by these limits, and count in this store, from now on.

        What was spent stays spent. What is held within other limits is not spent any more. A store
        that knows less of the day than this sidecar gets it back, as one that forgot.
        """
        if limits == self._terms and store is self._counter.store:
            return
        self._terms = limits
        self._counter.use(store)
        self._limits = Limits(limits.daily_requests, limits.daily_tokens)
        self._ledger.limit(self._limits)
        # Without a limit there is nothing that an unreachable store could protect.
        self._may_go_alone = store is None or not limits.deny_on_store_loss or self._limits.open

    def draw(self, *, tokens: int, done: Told) -> Callable[[], None] | None:
        """Tell `done` what `reserve` returns or raises: at once where nobody needs to be asked.

        Where the store does, `done` is called by the event loop, within the store's budget of time,
        and what is returned is to be called when nobody waits any more.
        """
        amounts = Amounts(1, tokens)
        outcome = self._at_once(amounts)
        if outcome is None:
            return self._wait(amounts, done).leave
        done(outcome)
        return None

    async def reserve(self, *, tokens: int) -> Reservation:
        """Set aside one call and at most this many tokens.

        Raises:
            errors.QuotaExhausted: the day has not that much left.
            errors.Unavailable: `quota_store_unavailable`: only the store knows, and it is away.
        """
        amounts = Amounts(1, tokens)
        outcome = self._at_once(amounts)
        if outcome is None:
            outcome = await self._in_line(amounts)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _at_once(self, amounts: Amounts) -> Outcome | None:
        """What becomes of a call for which nobody is asked; None where the store must be."""
        self._spent_at = self._clock()
        held = self._held(amounts)
        if held is not None or self._counter.is_there:
            return held
        return self._alone(amounts)

    def _held(self, amounts: Amounts) -> Reservation | None:
        has = self._ledger.has(amounts, now=self._clock())
        return self._ledger.spend(amounts) if has else None

    async def _in_line(self, amounts: Amounts) -> Outcome:
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome) -> None:
            if not waiting.done():
                waiting.set_result(outcome)
            else:
                self._unused(outcome)

        waiter = self._wait(amounts, told)
        try:
            return await waiting
        except asyncio.CancelledError:
            waiter.leave()
            # It may have been served in the turn in which it went.
            if not waiting.cancelled():
                self._unused(waiting.result())
            raise

    def _unused(self, outcome: Outcome) -> None:
        """Take back what was given to one who is gone by now."""
        if isinstance(outcome, Reservation):
            self.settle(outcome, billed=False, tokens=0)

    def _wait(self, amounts: Amounts, told: Told) -> Waiter:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return self._line.join(amounts, told)

    async def _ask(self) -> None:
        """Claim for the first in line, and serve all with what there is then, until none waits."""
        try:
            while True:
                async with self._lock:
                    # Others may have given back meanwhile.
                    self._line.serve(self._held)
                    amounts = self._line.first()
                    if amounts is None:
                        return
                    await self._claim(amounts)
        except BaseException as fault:
            # Nobody would ask for them any more.
            self._line.end(fault)
            raise
        finally:
            self._asking = None

    async def _claim(self, amounts: Amounts) -> None:
        ahead = 1 if self._closed else GRANT_CALLS
        claim = self._ledger.claim(amounts, ahead=ahead, now=self._clock())
        count = await self._counter.ask(claim)
        self._line.serve(self._held)
        if count is None:
            self._line.sift(lambda needed: self._held(needed) or self._alone(needed))
            return
        self._watch()
        # Not where midnight came between, nor within limits that hold no more.
        if count.short and claim.day <= count.day and claim.limits == self._limits:
            # What one is refused is not there for the others either: where a day is used up, all
            # who wait cost one claim and not one each.
            self._line.sift(
                lambda needed: self._exhausted(count.short) if needed.covers(amounts) else None
            )

    def _alone(self, amounts: Amounts) -> Outcome:
        if not self._may_go_alone:
            return errors.Unavailable(
                "The store that counts this policy's calls does not answer, and what it granted "
                "before is spent.",
                code="quota_store_unavailable",
                retry_after_seconds=AWAY_SECONDS,
            )
        self._turn()
        outcome = self._ledger.spend_alone(amounts)
        return self._exhausted(outcome) if isinstance(outcome, str) else outcome

    def settle(self, reservation: Reservation, *, billed: bool, tokens: int) -> None:
        """Say what a call came to: the tokens billed, or that it was not billed at all.

        Where that is unknown it was billed. Never raises, and a second time changes nothing. After
        the end it gives back what that leaves, soon.
        """
        self._ledger.settle(reservation, cost=Amounts(1, tokens) if billed else NOTHING)
        if self._closed:
            task = asyncio.get_running_loop().create_task(self.give_back())
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    @property
    def busy(self) -> bool:
        """Whether a call of today is under way."""
        return not self._ledger.idle

    def left(self) -> Allowance:
        """What this sidecar may still draw on, as it last heard; asks nobody."""
        now = self._clock()
        ends_in = self._ledger.ends_in_seconds(now=now)
        if ends_in is None:
            day = max(self._ledger.day, int(self._wall_clock() // DAY_SECONDS))
            ends_in = (day + 1) * DAY_SECONDS - self._wall_clock()
        calls, tokens = self._ledger.left()
        return Allowance(
            daily_requests=self._limits.calls,
            requests_left=calls,
            daily_tokens=self._limits.tokens,
            tokens_left=tokens,
            resets_in_seconds=ends_in,
        )

    @property
    def store_up(self) -> bool | None:
        """Whether the store answered when it was last asked; None where there is none."""
        return self._counter.store_up

    async def state(self) -> State:
        """The day so far, by the store where it answers, else by what was last heard."""
        async with self._lock:
            if await self._counter.ask(self._ledger.report()) is None:
                self._turn()
            await self._counter.check_durability()
        used = self._ledger.policy_used()
        reason, text = self._counter.inexact(goes_alone=self._may_go_alone)
        return State(
            daily_requests=self._limits.calls,
            used=used.calls,
            reserved=self._ledger.policy_reserved().calls,
            daily_tokens=self._limits.tokens,
            tokens_used=used.tokens,
            reset_at=_midnight_after(self._ledger.day),
            left=self.left(),
            exact_reason=reason,
            exact_text=text,
        )

    async def close(self) -> None:
        """Give the rest back. What is still under way is settled, and given back, after."""
        self._closed = True
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        await self.give_back()

    async def give_back(self) -> None:
        """Let go of what is held and not spent. Never raises."""
        async with self._lock:
            if (
                await self._counter.ask(self._ledger.give_back()) is None
                and self._counter.store is not None
            ):
                _log.warning("quota: a rest could not be given back; it stays counted for now")

    def _watch(self) -> None:
        if not self._closed and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return_when_idle())

    async def _return_when_idle(self) -> None:
        left = IDLE_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = self._spent_at + IDLE_SECONDS - self._clock()
        await self.give_back()

    def _exhausted(self, short: str) -> errors.QuotaExhausted:
        reset_at = _midnight_after(self._ledger.day)
        limit = self._limits.calls if short == "calls" else self._limits.tokens
        return errors.QuotaExhausted(
            f"This policy's {limit} {short} a day are used up, or what is left of them is less "
            f"than this request needs. They are available again at {reset_at:%Y-%m-%dT%H:%M:%SZ}.",
            left=self.left(),
        )

    def _turn(self) -> None:
        self._ledger.turn(int(self._wall_clock() // DAY_SECONDS), now=self._clock())


def _midnight_after(day: int) -> datetime:
    return datetime.fromtimestamp((day + 1) * DAY_SECONDS, tz=UTC)
