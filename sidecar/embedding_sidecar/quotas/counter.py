"""The store that a policy's calls are counted in, as one sidecar sees it: there, away or forgetful.

Its answers are booked as they come.
"""

import logging
from collections.abc import Callable
from typing import Final, Literal, Protocol

from embedding_sidecar import errors
from embedding_sidecar.quotas.books import Books
from embedding_sidecar.quotas.claims import NO_DAY, Claim, Count
from embedding_sidecar.quotas.leases import Ledger

AWAY_SECONDS: Final = 1.0
"""How long a store that did not answer is left alone, so that not every request waits for it."""
DURABILITY_SECONDS: Final = 60.0
"""How often the store is asked whether it keeps what it acknowledges."""

_log = logging.getLogger(__name__)

InexactReason = Literal["", "NoSharedStore", "StoreMayForget", "StoreAway", "StoreCorrupt"]


class Store(Protocol):
    """What the pods of a policy count in. Both raise errors.StoreAway."""

    async def claim(self, claim: Claim) -> Count:
        """Carry a claim out, if it is newer than the last one of its lease, and tell the count."""
        ...

    async def durability(self) -> str:
        """Why acknowledged writes may get lost; empty where they are kept."""
        ...


class Counter:
    """Where claims go; without a store nobody answers them.

    `clock` must never go back.
    """

    def __init__(self, *, books: Books, clock: Callable[[], float]) -> None:
        self.store: Store | None = None
        self._books = books
        self._clock = clock
        self._told_day = NO_DAY
        self._away = False
        self._corrupt = ""
        self._refusal = ""
        self._away_until = float("-inf")
        self._durability = "the store has not answered yet"
        self._durability_until = float("-inf")

    def use(self, store: Store | None) -> None:
        """Count in this store from now on; it is asked at once."""
        self.store = store
        self._away_until = self._durability_until = float("-inf")

    @property
    def is_there(self) -> bool:
        """Whether there is a store to be asked, which has not failed to answer a moment ago."""
        return self.store is not None and self._clock() >= self._away_until

    @property
    def is_corrupt(self) -> bool:
        """Whether the last answer was that the store holds what cannot be."""
        return bool(self._corrupt)

    @property
    def store_up(self) -> bool | None:
        """Whether the store answered when it was last asked; None where there is none."""
        return None if self.store is None else not self._away

    @property
    def word(self) -> str:
        """What the store did when it was last asked: none, ok, away or refuses: and why."""
        if self.store is None:
            return "none"
        if self._refusal:
            return f"refuses: {self._refusal}"
        return "away" if self._away else "ok"

    async def ask(self, ledger: Ledger, claim: Claim) -> Count | None:
        """The store's answer to a ledger's claim, booked; None: there is no store, or it is away.

        Of all ledgers one claim is under way at a time.
        """
        asked_at = self._clock()
        store = self.store
        if store is None or asked_at < self._away_until:
            return None
        try:
            count = await store.claim(claim)
        except errors.StoreAway as cause:
            if store is not self.store:
                return await self.ask(ledger, claim)
            self._missed(
                str(cause),
                corrupt=isinstance(cause, errors.StoreCorrupt),
                refused=isinstance(cause, errors.StoreRefuses),
            )
            return None
        if store is not self.store:
            # Another one counts by now, and a claim may be sent to any number of stores.
            return await self.ask(ledger, claim)
        # A day this machine's clock went on to by itself binds nobody who was told no day yet.
        if count.day < ledger.day and count.day <= self._told_day:
            self._missed("its clock went back to a day that is over")
            return None
        self._told_day = count.day
        if self._away:
            _log.info("quota: the store answers again")
        self._away, self._corrupt, self._refusal = False, "", ""
        self._books.enter(ledger, count, claim=claim, asked_at=asked_at, heard_at=self._clock())
        return count

    async def check_durability(self) -> None:
        """Ask, once in a while, whether the store keeps what it acknowledges."""
        now = self._clock()
        if self.store is None or self._away or now < self._durability_until:
            return
        try:
            self._durability = await self.store.durability()
        except errors.StoreAway as cause:
            self._missed(str(cause))
            return
        self._durability_until = now + DURABILITY_SECONDS

    def inexact(self, *, goes_alone: bool) -> tuple[InexactReason, str]:
        """Why the limit may not hold exactly, if so, and how it stands in a sentence.

        `goes_alone` says what this sidecar does while the store is away.
        """
        if self.store is None:
            return "NoSharedStore", "No Redis is configured: every pod counts alone."
        if self._away:
            consequence = "this pod counts alone" if goes_alone else "only granted calls are spent"
            if self._corrupt:
                return "StoreCorrupt", (
                    f"Redis holds counters that no sidecar can have written ({self._corrupt}): "
                    f"{consequence}. Find out who else writes there, then delete today's key."
                )
            what = f"refuses ({self._refusal})" if self._refusal else "does not answer"
            return "StoreAway", f"Redis {what}: {consequence}."
        count = self._books.count
        if count is not None and count.forgot:
            return "StoreMayForget", "Redis has forgotten calls of today; what pods knew is back."
        if self._durability:
            return "StoreMayForget", f"Redis may forget counted calls: {self._durability}."
        return "", "Every call is counted in Redis before it is made."

    def _missed(self, cause: str, *, corrupt: bool = False, refused: bool = False) -> None:
        if corrupt and not self._corrupt:
            _log.error("quota: the store holds what no sidecar can have written: %s", cause)
        elif refused and cause != self._refusal:
            _log.error("quota: the store refuses: %s", cause)
        elif not self._away:
            _log.warning("quota: the store is away: %s", cause)
        self._away, self._corrupt = True, cause if corrupt else ""
        self._refusal = cause if refused else ""
        self._away_until = self._clock() + AWAY_SECONDS
        # Whoever answers next may be another one.
        self._durability_until = float("-inf")
