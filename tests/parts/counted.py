"""A store in memory, its clock, and the sidecars of one policy that count in it."""

from datetime import UTC, datetime

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota import claims, leases, periods, quota
from tests.fakes.quota_store import FakeStore
from tests.parts.callbacks import draw

SCOPE = "team/policy"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
PRICE = 20 * 10**6
"""Nano-dollars of a million tokens: 20 of each."""


class Counted:
    """`beyond` has the period and unit of every draw beyond an observed limit."""

    def __init__(self, now: float = NOON) -> None:
        self.now = self._start = now
        self.store = FakeStore(lambda: self.now)
        self.beyond: list[tuple[str, str]] = []

    def sidecar(self, *, shared: bool = True, **limits) -> quota.Quota:
        """A sidecar of a policy with these limits, none of calls where none is named."""
        return quota.Quota(
            limits=document.Quota(**{"daily_requests": None, **limits}),
            scope=SCOPE,
            store=self.store if shared else None,
            clock=lambda: self.now - self._start,
            wall_clock=lambda: self.now,
            beyond=lambda *it: self.beyond.append(it),
        )

    def counted(self, period: periods.Period = periods.DAY) -> claims.Amounts:
        """What the store counts of the present period."""
        scope = SCOPE if period is periods.DAY else f"{SCOPE}:{period.word}"
        found = self.store.days.get((scope, period.number(self.now)))
        return found.counted if found else claims.NOTHING

    def spent(self, period: periods.Period = periods.DAY) -> claims.Amounts:
        """What the sidecars have reported of it."""
        scope = SCOPE if period is periods.DAY else f"{SCOPE}:{period.word}"
        return self.store.days[scope, period.number(self.now)].spent


async def made(sidecar: quota.Quota, *, bound=100, tokens=10, background=False):
    """A call: its reservation, or why it could not be made."""
    try:
        held = await draw(sidecar, tokens=bound, price=PRICE, background=background)
    except errors.Refused as refused:
        return refused
    sidecar.settle(held, billed=True, tokens=tokens, price=PRICE)
    return held


async def calls(sidecar: quota.Quota, most=1000, **more):
    """How many calls could be made, and why no more."""
    for number in range(most):
        came = await made(sidecar, **more)
        if not isinstance(came, leases.Reservation):
            return number, came
    return most, None
