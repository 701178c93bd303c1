"""The books of one sidecar: a ledger for each class of callers, and their sums."""

import math
from collections.abc import Sequence

from embedding_sidecar.quota.claims import NOTHING, Amounts, LeaseClaim, LeaseReply
from embedding_sidecar.quota.leases import Ledger


class Books:
    """All ledgers, and the store's last answer to any of them."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = ledgers
        self._count: LeaseReply | None = None
        self._pods = NOTHING
        """The sum of other pods' leases, by that answer."""
        self._over_at = -math.inf

    def enter(
        self,
        ledger: Ledger,
        count: LeaseReply,
        *,
        claim: LeaseClaim,
        asked_at: float,
        heard_at: float,
    ) -> None:
        """Book the answer to the last claim of a ledger; as Ledger.enter.

        The period is counted from `heard_at`, so that it ends here no earlier than there.
        """
        ledger.enter(count, claim=claim, asked_at=asked_at)
        self._over_at = heard_at + count.ends_in_seconds
        # All ledgers are in one period; leases of an earlier one have expired by now.
        self.start_period(count.number, now=math.inf)
        # The store's figures for our own leases are those of its last answers: a claim whose answer
        # was lost may have changed them, until the next one.
        held = [it.count.held for it in self._of(count.number) if it.count is not None]
        self._count = count
        self._pods = (count.counted - sum(held, start=NOTHING)).at_least(NOTHING)

    @property
    def number(self) -> int:
        """The latest period that a ledger is in."""
        return max(it.number for it in self._ledgers)

    def ends_in_seconds(self, *, now: float) -> float | None:
        """Seconds until the period ends by the store's clock, at most; None if unknown."""
        return self._over_at - now if now < self._over_at else None

    @property
    def count(self) -> LeaseReply | None:
        """The store's last answer of this period."""
        is_of_this = self._count is not None and self._count.number == self.number
        return self._count if is_of_this else None

    @property
    def idle(self) -> bool:
        """True if no reservation waits to be settled."""
        return all(it.idle for it in self._ledgers)

    def others(self, ledger: Ledger) -> Amounts:
        """The part of the period that other pods, as last heard, and our other ledgers have."""
        number, count = ledger.number, self._count
        taken = self._pods if count is not None and count.number == number else NOTHING
        for it in self._ledgers:
            if it is not ledger and it.is_drawn_from and it.number == number:
                taken += it.taken
        return taken

    def start_period(self, number: int, *, now: float) -> None:
        """Call Ledger.start_period for all ledgers."""
        for it in self._ledgers:
            it.start_period(number, now=now)

    def policy_used(self) -> Amounts:
        """Spent by the whole policy, as far as this sidecar knows."""
        before = self.count.spent if self.count else NOTHING
        return before + sum((it.unreported for it in self._of(self.number)), start=NOTHING)

    def policy_reserved(self) -> Amounts:
        """Counted and, as far as this sidecar knows, not spent."""
        counted = self.count.counted if self.count else NOTHING
        used = sum((it.used for it in self._of(self.number)), start=NOTHING)
        return (counted.at_least(used) - self.policy_used()).at_least(NOTHING)

    def _of(self, number: int) -> list[Ledger]:
        return [it for it in self._ledgers if it.number == number]
