"""A quota store in memory: the rules of the script in Python, with a clock of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claims import (
    DAY_SECONDS,
    NOTHING,
    Amounts,
    LeaseClaim,
    LeaseReply,
)


@dataclass
class Lease:
    sequence: int = -1
    held: Amounts = NOTHING
    spent: Amounts = NOTHING


@dataclass
class Day:
    counted: Amounts = NOTHING
    spent: Amounts = NOTHING
    incarnation: str = ""
    revision: int = 0
    forgot: bool = False
    leases: dict[str, Lease] = field(default_factory=dict)


class FakeStore:
    """`clock` tells seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.days: dict[tuple[str, int], Day] = {}
        self.durable = ""

    def forget(self) -> None:
        self.days.clear()

    async def durability(self) -> str:
        return self.durable

    async def claim(self, claim: LeaseClaim) -> LeaseReply:
        return self.carry_out(claim)

    def carry_out(self, claim: LeaseClaim) -> LeaseReply:
        number, elapsed = divmod(self.clock(), DAY_SECONDS)
        if claim.day != number:
            claim = replace(claim, floor=NOTHING, spent=NOTHING, seen=None)
        day = self.days.setdefault((claim.scope, int(number)), Day())
        lease = day.leases.setdefault(claim.lease, Lease())
        stale = claim.sequence <= lease.sequence
        if stale or (claim.day > number and lease.sequence >= 0):
            short = _short(lease.held - claim.floor, claim.need)
        else:
            short = self._obey(day, lease, claim)
        return LeaseReply(
            day=int(number),
            day_ends_in_seconds=DAY_SECONDS - elapsed,
            held=lease.held,
            short=short,
            counted=day.counted,
            spent=day.spent,
            incarnation=day.incarnation,
            revision=day.revision,
            forgot=day.forgot,
        )

    def _obey(self, day: Day, lease: Lease, claim: LeaseClaim) -> str:
        seen = claim.seen
        differs = seen and seen.revision == day.revision and seen.counted != day.counted
        day.counted += claim.floor - lease.held
        day.spent += claim.spent - lease.spent
        if (
            seen
            and seen.incarnation
            and (
                seen.incarnation != day.incarnation
                or seen.revision > day.revision
                or differs
                or lease.sequence < 0
            )
        ):
            day.counted = day.counted.at_least(seen.counted)
            day.revision = max(day.revision, seen.revision)
            day.incarnation, day.forgot = "", True
        day.incarnation = day.incarnation or f"{claim.lease}.{claim.sequence}"
        day.revision += 1
        granted = Amounts(
            _part(claim.limits.calls, day.counted.calls, claim.need.calls, claim.want.calls),
            _part(claim.limits.tokens, day.counted.tokens, claim.need.tokens, claim.want.tokens),
        )
        short = _short(granted, claim.need)
        if short:
            granted = NOTHING
        day.counted += granted
        lease.sequence, lease.held, lease.spent = (
            claim.sequence,
            claim.floor + granted,
            claim.spent,
        )
        return short


def last_seen(
    *, incarnation: str = "", revision: int = 0, counted: Amounts = NOTHING
) -> LeaseReply:
    """An answer, as far as the next claim tells it."""
    return LeaseReply(
        day=0,
        day_ends_in_seconds=0,
        held=NOTHING,
        short="",
        counted=counted,
        spent=NOTHING,
        incarnation=incarnation,
        revision=revision,
        forgot=False,
    )


def _part(limit: int | None, counted: int, need: int, want: int) -> int:
    if limit is None:
        return want
    left = limit - counted
    return min(want, max(need, left // quota_store.NEAR_THE_LIMIT)) if left >= need else 0


def _short(granted: Amounts, need: Amounts) -> str:
    if granted.calls < need.calls:
        return "calls"
    return "tokens" if granted.tokens < need.tokens else ""
