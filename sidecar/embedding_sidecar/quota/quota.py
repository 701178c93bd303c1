"""The policy's day: how many calls and tokens its pods may still spend.

A call is counted in the store before it is made; see `leases` for how, and decision 005 for why.
The day is UTC by the store's clock. A call belongs to the day it was reserved in.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from embedding_contract import document
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.quota.books import Books
from embedding_sidecar.quota.claims import NOTHING, Amounts, Limits
from embedding_sidecar.quota.counter import Counter, InexactReason, Store
from embedding_sidecar.quota.leases import Ledger, Reservation
from embedding_sidecar.quota.share import Share, Terms, Told, midnight_after


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The day so far.

    `used` is the calls of all pods, as last reported; `reserved` is counted beyond that: held by
    pods, or lost with pods that died. A limit of None is no limit. `left` is what this sidecar can
    still draw, and `left_to_background` the same without the reserve for applications.
    `exact_reason` is empty where the limit holds exactly; `exact_text` is a sentence of it.
    """

    daily_requests: int | None
    used: int
    reserved: int
    daily_tokens: int | None
    tokens_used: int
    reset_at: datetime
    left: Allowance
    left_to_background: Allowance
    exact_reason: InexactReason
    exact_text: str

    @property
    def exact(self) -> bool:
        """True if the limit is never exceeded, even where pods die."""
        return not self.exact_reason


class Quota:
    """One sidecar's shares in the policy's day: the applications' and that of background work.

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
        ledgers = [
            Ledger(scope=scope, lease=secrets.token_hex(8), background=it) for it in (True, False)
        ]
        self.books = Books(ledgers)
        self.counter = Counter(books=self.books, clock=clock, wall_clock=wall_clock)
        self._shares = {it.background: Share(it, self.counter) for it in ledgers}
        self._terms: Terms
        self._obeyed: document.Quota | None = None
        self.obey(limits, store=store)

    def obey(self, limits: document.Quota, *, store: Store | None) -> None:
        """Apply these limits, and count in this store, from now on.

        Spending stays spent. Amounts held within other limits are not spent any more. A store that
        knows less of the day than this sidecar gets the figures back, as one that forgot.
        """
        if limits == self._obeyed and store is self.counter.store:
            return
        self._obeyed = limits
        self.counter.use(store)
        day = Limits(limits.daily_requests, limits.daily_tokens)
        reserve = Amounts(limits.reserved_requests, limits.reserved_tokens)
        # Without a limit there is nothing that an unreachable store could protect.
        may_go_alone = store is None or not limits.deny_on_store_loss or day.open
        self._terms = Terms(day, reserve, may_go_alone)
        for background, share in self._shares.items():
            share.obey(self._terms if background else self._terms._replace(reserve=NOTHING))

    def draw(
        self, *, tokens: int, done: Told, background: bool = False
    ) -> Callable[[], None] | None:
        """Set aside one call and at most this many tokens; `done` gets the outcome.

        That is a Reservation; or errors.QuotaExhausted: the day has not that much left, or not for
        background work; or errors.Unavailable, `quota_store_unavailable`: only the store knows, and
        it is away. Where the store need not be asked, `done` is called at once, and None returned.
        Else the event loop calls `done`, within the store's budget of time, and the returned
        callback cancels the wait; `done` may still be called in that loop iteration.
        """
        return self._shares[background].draw(Amounts(1, tokens), done)

    def settle(self, reservation: Reservation, *, billed: bool, tokens: int) -> None:
        """Settle a call: by the tokens billed, or as not billed at all.

        Where that is unknown it was billed. Never raises, and a second time changes nothing. After
        `close` the rest that this leaves is released soon.
        """
        cost = Amounts(1, tokens) if billed else NOTHING
        self._shares[reservation.background].settle(reservation, cost=cost)

    def left(self, *, background: bool = False) -> Allowance:
        """The rest that this sidecar may draw on, by the last answers; sends no request."""
        return self._shares[background].left()

    async def state(self) -> State:
        """The day so far, by the store where it answers, else by its last answers."""
        async with self.counter.claiming:
            for share in self._reported_shares():
                if await self.counter.ask(share.ledger, share.ledger.report()) is None:
                    self.counter.start_today()
            await self.counter.check_durability()
        used = self.books.policy_used()
        reason, text = self.counter.inexact(goes_alone=self._terms.may_go_alone)
        return State(
            daily_requests=self._terms.day.calls,
            used=used.calls,
            reserved=self.books.policy_reserved().calls,
            daily_tokens=self._terms.day.tokens,
            tokens_used=used.tokens,
            reset_at=midnight_after(self.books.day),
            left=self.left(),
            left_to_background=self.left(background=True),
            exact_reason=reason,
            exact_text=text,
        )

    async def close(self) -> None:
        """Release the rest. Calls still in flight are settled, and their rest released, later."""
        self.counter.is_ending = True
        for share in self._reported_shares():
            await share.close()

    def _reported_shares(self) -> list[Share]:
        shares = self._shares.values()
        return [it for it in shares if it.ledger.is_drawn_from or not it.ledger.background]
