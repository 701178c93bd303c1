"""One period of a quota, a day or a month: its books, counter and the shares of both classes."""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from embedding_sidecar.quota.books import Books
from embedding_sidecar.quota.claim_queue import Outcome, Told
from embedding_sidecar.quota.claims import NO_LIMITS, NOTHING, Amounts, Limits
from embedding_sidecar.quota.counter import Counter, InexactReason, Store
from embedding_sidecar.quota.leases import Ledger, Reservation
from embedding_sidecar.quota.periods import Period
from embedding_sidecar.quota.share import Share, Terms

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {"calls": "requests", "tokens": "tokens", "cost": "cost"}
)
"""The units as documents, pages and metrics name them."""


class LimitState(NamedTuple):
    """A limit and what is counted of it, by all pods: spent, and held beyond that.

    `unit` is requests, tokens or cost; a cost is in nano-dollars.
    """

    period: str
    unit: str
    limit: int
    used: int
    reserved: int
    reset_at: datetime


class PeriodQuota:
    """One sidecar's shares in the policy's day or month.

    `beyond` is called with the period and the unit of each limit that a draw exceeds, while limits
    are only observed. The clocks are those of Quota.
    """

    def __init__(
        self,
        period: Period,
        *,
        scope: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        beyond: Callable[[str, str], None],
    ) -> None:
        ledgers = [
            Ledger(scope=scope, period=period, lease=secrets.token_hex(8), background=it)
            for it in (True, False)
        ]
        self.period = period
        self.books = Books(ledgers)
        self.counter = Counter(period=period, books=self.books, clock=clock, wall_clock=wall_clock)
        self.shares = {it.background: Share(it, self.counter) for it in ledgers}
        self._beyond = beyond
        self._terms = Terms(NO_LIMITS, NOTHING, may_go_alone=True)

    def obey(self, terms: Terms, *, store: Store | None) -> None:
        """Apply these terms, and count in this store, from now on."""
        self.counter.use(store)
        self._terms = terms
        for background, share in self.shares.items():
            share.obey(terms if background else terms._replace(reserve=NOTHING))

    @property
    def limits(self) -> Limits:
        """The period's limits, as the policy has them."""
        return self._terms.limits

    def draw(self, amounts: Amounts, done: Told, *, background: bool) -> Callable[[], None] | None:
        """Set aside these amounts, by the contract of Quota.draw."""
        told = partial(self._observed, done) if self._terms.observes else done
        return self.shares[background].draw(amounts, told)

    def _observed(self, done: Told, outcome: Outcome) -> None:
        """Tell which limits a draw exceeds, by what all pods have spent as far as is known."""
        if isinstance(outcome, Reservation):
            units = [UNITS[it] for it in self.limits.exceeded(self.books.policy_used())]
            for unit in units:
                self._beyond(self.period.word, unit)
            if units:
                outcome = outcome._replace(
                    beyond=tuple(f"{self.period.word}.{unit}" for unit in units)
                )
        done(outcome)

    def limit_states(self) -> list[LimitState]:
        """All limits, with what is counted of them."""
        used, reserved = self.books.policy_used(), self.books.policy_reserved()
        word, end = self.period.word, self.period.end(self.books.number)
        counted = zip(UNITS.values(), self.limits, used, reserved, strict=True)
        return [
            LimitState(word, unit, limit, of_it, held, end)
            for unit, limit, of_it, held in counted
            if limit is not None
        ]

    async def ask(self) -> None:
        """Report to the store what was spent, and hear what others did."""
        async with self.counter.claiming:
            for share in self.reported_shares():
                if await self.counter.ask(share.ledger, share.ledger.report()) is None:
                    self.counter.start_present()
            await self.counter.check_durability()

    def inexact(self) -> tuple[InexactReason, str]:
        """The reason why a limit may not hold exactly, as Counter.inexact."""
        return self.counter.inexact(goes_alone=self._terms.may_go_alone)

    async def close(self) -> None:
        """Release the rest, by the contract of Quota.close."""
        self.counter.is_ending = True
        for share in self.reported_shares():
            await share.close()

    def reported_shares(self) -> list[Share]:
        """The shares that the store is told of: background work's stays untouched in most pods."""
        return [
            it for it in self.shares.values() if it.ledger.is_drawn_from or not it.ledger.background
        ]
