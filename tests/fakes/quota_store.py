"""A quota store in memory: the rules of the script in Python, with a clock of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claims import NOTHING, Amounts, LeaseClaim, LeaseReply
from embedding_sidecar.quota.periods import DAY


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
        now, period = self.clock(), claim.period
        number = period.number(now)
        if claim.number != number:
            claim = replace(claim, floor=NOTHING, spent=NOTHING, seen=None)
        if not claim.has_cost:
            claim = _without_cost(claim)
        scope = claim.scope if period is DAY else f"{claim.scope}:{period.word}"
        day = self.days.setdefault((scope, number), Day())
        lease = day.leases.setdefault(claim.lease, Lease())
        stale = claim.sequence <= lease.sequence
        if stale or (claim.number > number and lease.sequence >= 0):
            held = lease.held if claim.has_cost else lease.held._replace(cost=0)
            short = _short(held - claim.floor, claim.need)
        else:
            short = self._obey(day, lease, claim)
        told = (lease.held, day.counted, day.spent)
        held, counted, spent = (it if claim.has_cost else it._replace(cost=0) for it in told)
        return LeaseReply(
            number=number,
            ends_in_seconds=period.end(number).timestamp() - now,
            held=held,
            short=short,
            counted=counted,
            spent=spent,
            has_cost=claim.has_cost,
            incarnation=day.incarnation,
            revision=day.revision,
            forgot=day.forgot,
        )

    def _obey(self, day: Day, lease: Lease, claim: LeaseClaim) -> str:
        seen = claim.seen
        if not claim.has_cost:
            # Costs are neither read nor written: they stay as they are.
            kept = lease.held.cost, lease.spent.cost
            claim = replace(
                claim,
                floor=claim.floor._replace(cost=kept[0]),
                spent=claim.spent._replace(cost=kept[1]),
            )
        if seen and not (seen.has_cost and claim.has_cost):
            seen = replace(seen, counted=seen.counted._replace(cost=day.counted.cost))
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
            _part(claim.limits.cost, day.counted.cost, claim.need.cost, claim.want.cost),
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
    *,
    incarnation: str = "",
    revision: int = 0,
    counted: Amounts = NOTHING,
    has_cost: bool = False,
) -> LeaseReply:
    """An answer, as far as the next claim tells it."""
    return LeaseReply(
        number=0,
        ends_in_seconds=0,
        held=NOTHING,
        short="",
        counted=counted,
        spent=NOTHING,
        has_cost=has_cost,
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
    units = zip(Amounts._fields, granted, need, strict=True)
    return next((unit for unit, it, needed in units if it < needed), "")


def _without_cost(claim: LeaseClaim) -> LeaseClaim:
    names = ("floor", "spent", "need", "want")
    amounts = {name: getattr(claim, name)._replace(cost=0) for name in names}
    return replace(claim, limits=claim.limits._replace(cost=None), **amounts)
