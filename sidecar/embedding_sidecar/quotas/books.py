"""The books of one sidecar: a ledger for each class of callers, and what they say together."""

import math

from embedding_sidecar.quotas.claims import NO_DAY, NOTHING, Amounts, Claim, Count
from embedding_sidecar.quotas.leases import Ledger


class Books:
    """All ledgers, and what the store last said to any of them."""

    def __init__(self) -> None:
        self._ledgers: list[Ledger] = []
        self._count: Count | None = None
        self._pods = NOTHING
        """What the leases of other pods come to, by that."""
        self._over_at = -math.inf

    def add(self, ledger: Ledger) -> None:
        """Keep one more, which is in the same day and nothing was drawn from."""
        self._ledgers.append(ledger)

    def enter(
        self, ledger: Ledger, count: Count, *, claim: Claim, asked_at: float, heard_at: float
    ) -> None:
        """Book the answer to the last claim of a ledger; as Ledger.enter.

        Counted from the moment of hearing, the day ends here no earlier than there.
        """
        ledger.enter(count, claim=claim, asked_at=asked_at)
        self._over_at = heard_at + count.day_ends_in_seconds
        for it in self._ledgers:
            # The day is one for all; what was held of an earlier one has expired by now.
            it.turn(count.day, now=math.inf)
        # What the store has for leases of our own is what it last said of them: a claim whose
        # answer was lost may have made them larger or smaller, until the next one.
        ours = _sum([it.count.held for it in self._of(count.day) if it.count is not None])
        self._count = count
        self._pods = (count.counted - ours).at_least(NOTHING)

    @property
    def day(self) -> int:
        """The latest day that a ledger is in."""
        return max([it.day for it in self._ledgers], default=NO_DAY)

    def ends_in_seconds(self, *, now: float) -> float | None:
        """How long the day lasts by the store's clock, at most; None where that is not known."""
        return self._over_at - now if now < self._over_at else None

    @property
    def count(self) -> Count | None:
        """What the store last said of this day."""
        count = self._count
        return count if count is not None and count.day == self.day else None

    @property
    def idle(self) -> bool:
        """Whether no reservation waits for its settling."""
        return all(it.idle for it in self._ledgers)

    def others(self, ledger: Ledger) -> Amounts:
        """What this ledger cannot spend of its day: other pods' as last heard, and our others'."""
        day, count = ledger.day, self._count
        taken = self._pods if count is not None and count.day == day else NOTHING
        for it in self._ledgers:
            if it is not ledger and it.day == day:
                taken += it.taken
        return taken

    def turn(self, day: int, *, now: float) -> None:
        """As Ledger.turn, of all."""
        for it in self._ledgers:
            it.turn(day, now=now)

    def policy_used(self) -> Amounts:
        """What the whole policy has spent, as far as this sidecar knows."""
        before = self.count.spent if self.count else NOTHING
        return before + _sum([it.unreported for it in self._of(self.day)])

    def policy_reserved(self) -> Amounts:
        """What is counted and, as far as this sidecar knows, not spent."""
        counted = self.count.counted if self.count else NOTHING
        used = _sum([it.used for it in self._of(self.day)])
        return (counted.at_least(used) - self.policy_used()).at_least(NOTHING)

    def _of(self, day: int) -> list[Ledger]:
        return [it for it in self._ledgers if it.day == day]


def _sum(amounts: list[Amounts]) -> Amounts:
    return sum(amounts, start=NOTHING)
