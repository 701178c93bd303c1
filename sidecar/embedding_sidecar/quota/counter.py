"""The store that counts a policy's calls, and its state: there, away or forgetful."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal, Protocol

from embedding_sidecar import errors
from embedding_sidecar.quota.books import Books
from embedding_sidecar.quota.claims import LeaseClaim, LeaseReply
from embedding_sidecar.quota.leases import Ledger
from embedding_sidecar.quota.periods import NO_NUMBER, Period

AWAY_SECONDS: Final = 1.0
"""A store that did not answer is not asked for so long, so that not every request waits for it."""
DURABILITY_SECONDS: Final = 60.0
"""Interval of the question whether the store keeps acknowledged writes."""

_log = logging.getLogger(__name__)

InexactReason = Literal["", "NoSharedStore", "StoreMayForget", "StoreAway", "StoreCorrupt"]


class Store(Protocol):
    """The counters that a policy's pods share. Both methods raise errors.StoreAway."""

    async def claim(self, claim: LeaseClaim) -> LeaseReply:
        """Carry a claim out, if it is newer than the last one of its lease."""

    async def durability(self) -> str:
        """The reason why acknowledged writes may get lost; empty if they are kept."""


class Counter:
    """Sends claims to the store and books the answers; its clocks are the quota's."""

    def __init__(
        self,
        *,
        period: Period,
        books: Books,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.period = period
        self.books = books
        self.clock = clock
        self.wall_clock = wall_clock
        self.claiming = asyncio.Lock()
        """Held from the making of a claim to its answer: one is under way at a time."""
        self.is_ending = False
        """If True, shares hold nothing ahead, and release the rest of each settling."""
        self._told_number = NO_NUMBER
        self.failure: errors.StoreAway | None = None
        """The last answer's failure, None if it was a count."""
        self._durability = "the store has not answered yet"
        self.use(None)

    def use(self, store: Store | None) -> None:
        """Count in this store from now on; it is asked at once."""
        self.store = store
        self._away_until = self._durability_until = float("-inf")

    @property
    def is_there(self) -> bool:
        """True if there is a store, and it has not just failed to answer."""
        return self.store is not None and self.clock() >= self._away_until

    @property
    def present(self) -> int:
        """The period by this machine's clock."""
        return self.period.number(self.wall_clock())

    def start_present(self) -> None:
        """Go on by this machine's clock, as no store tells the time."""
        self.books.start_period(self.present, now=self.clock())

    @property
    def word(self) -> str:
        """The store's last answer: `none`, `ok`, `away` or `refuses: WHY`."""
        if self.store is None:
            return "none"
        if isinstance(self.failure, errors.StoreRefuses):
            return f"refuses: {self.failure}"
        return "away" if self.failure else "ok"

    async def ask(self, ledger: Ledger, claim: LeaseClaim) -> LeaseReply | None:
        """The store's answer to a ledger's claim, booked; None if none is there."""
        asked_at = self.clock()
        store = self.store
        if store is None or asked_at < self._away_until:
            return None
        try:
            count = await store.claim(claim)
        except errors.StoreAway as cause:
            if store is not self.store:
                return await self.ask(ledger, claim)
            self._failed(cause)
            return None
        if store is not self.store:
            # Another store counts by now, and a claim may be sent to any number of stores.
            return await self.ask(ledger, claim)
        # A later one by this machine's clock alone does not bind before the store's first answer.
        if count.number < ledger.number and count.number <= self._told_number:
            word = self.period.word
            self._failed(errors.StoreAway(f"its clock went back to a {word} that is over"))
            return None
        self._told_number = count.number
        if self.failure:
            _log.info("quota: the store answers again")
        self.failure = None
        self.books.enter(ledger, count, claim=claim, asked_at=asked_at, heard_at=self.clock())
        return count

    async def check_durability(self) -> None:
        """Ask, once in a while, whether the store keeps acknowledged writes."""
        now = self.clock()
        if self.store is None or self.failure or now < self._durability_until:
            return
        try:
            self._durability = await self.store.durability()
        except errors.StoreAway as cause:
            self._failed(cause)
            return
        self._durability_until = now + DURABILITY_SECONDS

    def inexact(self, *, goes_alone: bool) -> tuple[InexactReason, str]:
        """The reason why the limit may not hold exactly, empty if it does; and a sentence of it.

        `goes_alone`: this sidecar makes calls while the store is away.
        """
        if self.store is None:
            return "NoSharedStore", "No Redis is configured: every pod counts alone."
        if self.failure:
            consequence = "this pod counts alone" if goes_alone else "only granted calls are spent"
            text = f"Redis {self.failure.predicate}: {consequence}."
            if isinstance(self.failure, errors.StoreCorrupt):
                what = f"Find out what else writes there, then delete {self.period.this}'s key."
                return "StoreCorrupt", f"{text} {what}"
            return "StoreAway", text
        count = self.books.count
        if count is not None and count.forgot:
            text = f"Redis has forgotten calls of {self.period.this}; pods restored them."
            return "StoreMayForget", text
        if self._durability:
            return "StoreMayForget", f"Redis may forget counted calls: {self._durability}."
        return "", "Every call is counted in Redis before it is made."

    def _failed(self, cause: errors.StoreAway) -> None:
        before, self.failure = self.failure, cause.as_value()
        if isinstance(cause, errors.StoreCorrupt):
            if not isinstance(before, errors.StoreCorrupt):
                _log.error("quota: the store holds counters of no sidecar: %s", cause)
        elif isinstance(cause, errors.StoreRefuses):
            if not isinstance(before, errors.StoreRefuses) or str(cause) != str(before):
                _log.error("quota: the store refuses: %s", cause)
        elif before is None:
            _log.warning("quota: the store is away: %s", cause)
        self._away_until = self.clock() + AWAY_SECONDS
        # The next answer may come from another server.
        self._durability_until = float("-inf")
