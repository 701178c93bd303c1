"""The policy's quota: how many calls and tokens and how much money its pods may still spend.

A call is counted in the store before it is made; see `leases` for how, and decision 005 for why.
Days and months are UTC by the store's clock. A call belongs to those it was reserved in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from embedding_contract import document, money
from embedding_sidecar import errors
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.quota.chain import Chain, Link
from embedding_sidecar.quota.claim_queue import Told
from embedding_sidecar.quota.claims import NOTHING, Amounts, Limits
from embedding_sidecar.quota.counter import InexactReason, Store
from embedding_sidecar.quota.leases import Reservation
from embedding_sidecar.quota.period_quota import LimitState, PeriodQuota
from embedding_sidecar.quota.periods import DAY, MONTH
from embedding_sidecar.quota.share import Terms

_MOST_COST: Final = money.MAX_NANOS + 1
"""The cost of a call that costs more than any limit allows: exact in Redis's scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The day so far, and all limits.

    `used` is the calls of all pods, as last reported; `reserved` is counted beyond that: held by
    pods, or lost with pods that died. A limit of None is no limit. `left` is what this sidecar can
    still draw, and `left_to_background` the same without the reserve for applications.
    `exact_reason` is empty where the limits hold exactly; `exact_text` is a sentence of it.
    """

    daily_requests: int | None
    used: int
    reserved: int
    daily_tokens: int | None
    tokens_used: int
    reset_at: datetime
    left: Allowance
    left_to_background: Allowance
    limits: tuple[LimitState, ...]
    exact_reason: InexactReason
    exact_text: str

    @property
    def exact(self) -> bool:
        """True if no limit is ever exceeded, even where pods die."""
        return not self.exact_reason


class Quota:
    """One sidecar's shares in the policy's quota: the applications' and that of background work.

    `clock` must never go back; what it shows while the machine sleeps only decides to which period
    a call is counted. `wall_clock` serves where no store tells the time. `beyond` is called with
    the period and the unit of each limit that a draw exceeds, while limits are only observed.
    """

    def __init__(
        self,
        *,
        limits: document.Quota,
        scope: str,
        store: Store | None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        beyond: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._make = partial(
            PeriodQuota, scope=scope, clock=clock, wall_clock=wall_clock, beyond=beyond
        )
        self.day = self._make(DAY)
        self.month: PeriodQuota | None = None
        """None until the policy limits a month: what it spends before that is not counted."""
        self._has_month = False
        self.observes = False
        """True if limits are only observed, and nothing is refused."""
        self._obeyed: document.Quota | None = None
        self.obey(limits, store=store)

    def obey(self, limits: document.Quota, *, store: Store | None) -> None:
        """Apply these limits, and count in this store, from now on.

        Spending stays spent. Amounts held within other limits are not spent any more. A store that
        knows less of the day than this sidecar gets the figures back, as one that forgot.
        """
        if limits == self._obeyed and store is self.day.counter.store:
            return
        self._obeyed = limits
        self.observes = limits.observes
        percent = limits.reserved_percent
        day = Limits(limits.daily_requests, limits.daily_tokens, limits.daily_cost)
        kept = _share(day, percent)._replace(
            calls=limits.reserved_requests, tokens=limits.reserved_tokens
        )
        self.day.obey(_terms(limits, day, kept, store), store=store)
        month = Limits(limits.monthly_requests, limits.monthly_tokens, limits.monthly_cost)
        self._has_month = not month.open
        if self._has_month and self.month is None:
            self.month = self._make(MONTH)
        if self.month is not None:
            self.month.obey(_terms(limits, month, _share(month, percent), store), store=store)

    def draw(
        self, *, tokens: int, done: Told, background: bool = False, price: int = 0
    ) -> Callable[[], None] | None:
        """Set aside one call, at most this many tokens, and their cost; `done` gets the outcome.

        That is a Reservation; or errors.QuotaExhausted: a period has not that much left, or not for
        background work; or errors.Unavailable, `quota_store_unavailable`: only the store knows, and
        it is away. Where the store need not be asked, `done` is called at once, and None returned.
        Else the event loop calls `done`, within the store's budget of time for each period, and the
        returned callback cancels the wait; `done` may still be called in that loop iteration.

        `price` is the nano-dollars of a million tokens. A period without a limit in money counts
        the cost as well: an edit may bring one while the call waits.
        """
        cost = min(money.cost(tokens, price=price), _MOST_COST) if price else 0
        amounts = Amounts(1, tokens, cost)
        if self.month is None or not self._has_month:
            return self.day.draw(amounts, done, background=background)
        day, month = self.day.shares[background], self.month.shares[background]
        if day.has(amounts):
            if month.has(amounts) and not self.observes:
                done(day.spend(amounts, month.spend(amounts)))
                return None
        else:
            # Both claims go to the store at once.
            month.prepare(amounts)
        # The day gets back the units that the month refuses.
        links = [
            self._link(self.day, amounts, background=background),
            self._link(self.month, amounts, background=background),
        ]
        return Chain(links, partial(self._drawn, done, background)).start()

    def _link(self, period: PeriodQuota, amounts: Amounts, *, background: bool) -> Link:
        return Link(
            partial(period.draw, amounts, background=background),
            partial(period.shares[background].settle, cost=NOTHING),
        )

    def _drawn(self, done: Told, background: bool, outcome: Any) -> None:  # noqa: FBT001 - of a partial
        if isinstance(outcome, list):
            day, month = outcome
            outcome = day._replace(month=month, beyond=day.beyond + month.beyond)
        elif isinstance(outcome, errors.QuotaExhausted):
            outcome.left = self.left(background=background)
        done(outcome)

    def settle(
        self, reservation: Reservation, *, billed: bool, tokens: int, price: int = 0
    ) -> None:
        """Settle a call: by the tokens billed, or as not billed at all.

        Where that is unknown it was billed. A usage above what was set aside counts as that, one
        below 0 as 0. Never raises, and a second time changes nothing. After `close` the rest that
        this leaves is released soon.
        """
        paid = money.cost(tokens, price=price) if price else 0
        cost = Amounts(1, tokens, paid) if billed else NOTHING
        self.day.shares[reservation.background].settle(reservation, cost=cost)
        month = reservation.month
        if month is not None and self.month is not None:
            self.month.shares[month.background].settle(month, cost=cost)

    def left(self, *, background: bool = False) -> Allowance:
        """The rest that this sidecar may draw on, by the last answers; sends no request."""
        day = self.day.shares[background].left()
        if self.month is None or not self._has_month:
            return day
        return day._replace(month=self.month.shares[background].left())

    def limit_states(self) -> list[LimitState]:
        """All limits with what is counted of them, by the last answers; sends no request."""
        return [state for it in self._periods() for state in it.limit_states()]

    async def state(self) -> State:
        """The day so far, by the store where it answers, else by its last answers."""
        for it in self._periods():
            await it.ask()
        used = self.day.books.policy_used()
        reasons = [it.inexact() for it in self._periods()]
        reason, text = next((it for it in reasons if it[0]), reasons[0])
        limits = self.day.limits
        return State(
            daily_requests=limits.calls,
            used=used.calls,
            reserved=self.day.books.policy_reserved().calls,
            daily_tokens=limits.tokens,
            tokens_used=used.tokens,
            reset_at=DAY.end(self.day.books.number),
            left=self.left(),
            left_to_background=self.left(background=True),
            limits=tuple(self.limit_states()),
            exact_reason=reason,
            exact_text=text,
        )

    @property
    def store_word(self) -> str:
        """The store's last answer, as Counter.word: the first that is not `ok`, else `ok`."""
        words = [it.counter.word for it in self._periods()]
        return next((it for it in words if it != "ok"), "ok")

    @property
    def idle(self) -> bool:
        """True if no reservation waits to be settled."""
        return self.day.books.idle and (self.month is None or self.month.books.idle)

    async def close(self) -> None:
        """Release the rest. Calls still in flight are settled, and their rest released, later."""
        await self.day.close()
        if self.month is not None:
            await self.month.close()

    def _periods(self) -> list[PeriodQuota]:
        return [self.day, self.month] if self._has_month and self.month else [self.day]


def _terms(quota: document.Quota, limits: Limits, reserve: Amounts, store: Store | None) -> Terms:
    # Without a limit that holds there is nothing that an unreachable store could protect.
    holds = not limits.open and not quota.observes
    return Terms(
        limits,
        reserve,
        may_go_alone=store is None or not quota.deny_on_store_loss or not holds,
        observes=quota.observes,
    )


def _share(limits: Limits, percent: int) -> Amounts:
    """A share of each limit, rounded up; of no limit nothing."""
    return Amounts(*(-(-(it or 0) * percent // 100) for it in limits))
