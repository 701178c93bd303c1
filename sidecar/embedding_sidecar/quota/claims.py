"""A claim of a part of the policy's day or month, and the store's answer."""

import operator
from dataclasses import dataclass
from typing import Final, NamedTuple

from embedding_sidecar.quota.periods import DAY, Period


class Amounts(NamedTuple):
    """An amount of each unit that is counted; `cost` is in nano-dollars."""

    calls: int = 0
    tokens: int = 0
    cost: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":  # type: ignore[override] # not a longer tuple
        return Amounts(*map(operator.add, self, other))

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(*map(operator.sub, self, other))

    def times(self, factor: int) -> "Amounts":
        """Each times `factor`."""
        return Amounts(*(it * factor for it in self))

    def at_least(self, other: "Amounts") -> "Amounts":
        """The greater of each."""
        return Amounts(*map(max, self, other))

    def at_most(self, other: "Amounts") -> "Amounts":
        """The smaller of each."""
        return Amounts(*map(min, self, other))

    def covers(self, other: "Amounts") -> bool:
        """True if none is smaller than the other's."""
        return all(map(operator.ge, self, other))


NOTHING: Final = Amounts()


class Limits(NamedTuple):
    """The most of each unit in a period of a policy; None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    cost: int | None = None

    @property
    def open(self) -> bool:
        """True if nothing is limited."""
        return self.count(None) == len(self)

    def without(self, taken: Amounts) -> "Limits":
        """The rest of each limit beside amounts that are taken, or reserved for others."""
        return Limits(*map(_rest, self, taken))

    def exceeded(self, amounts: Amounts) -> list[str]:
        """The units whose limits the amounts exceed."""
        units = zip(self._fields, self, amounts, strict=True)
        return [unit for unit, limit, it in units if limit is not None and it > limit]

    def short(self, amounts: Amounts) -> str:
        """The first unit whose limit the amounts exceed; empty for none."""
        return next(iter(self.exceeded(amounts)), "")


NO_LIMITS: Final = Limits()


def _rest(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseClaim:
    """The wanted size of a lease: `floor`, and up to `want` more if at least `need` is left.

    `limits` bound the sum of all leases when this one grows. Those of background work are without
    the part that is reserved for applications. Without `has_cost` the store neither reads nor
    writes costs.

    `number` is the period of `floor`, `spent` and `seen`. Where the store is in another one, they
    count as nothing; if in an earlier one, the lease stays as it is. `sequence` grows with every
    claim of a lease. `seen` is the store's last answer of the period: a store that shows less has
    forgotten, and gets `counted` back.
    """

    scope: str
    period: Period = DAY
    lease: str
    sequence: int
    number: int
    limits: Limits
    has_cost: bool = False
    floor: Amounts = NOTHING
    spent: Amounts = NOTHING
    need: Amounts = NOTHING
    want: Amounts = NOTHING
    seen: "LeaseReply | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReply:
    """The store's answer to a claim.

    `held` is the lease's size now. `short` names the limit that left less than was needed; then
    nothing was added. `counted` is the sum of the period's leases, `spent` the sum that their
    holders have reported; both are without costs unless `has_cost`. `incarnation` changes when a
    store that forgot is restored; `revision` grows with every claim. `forgot`: the store has
    forgotten claims of this period.
    """

    number: int
    ends_in_seconds: float
    held: Amounts
    short: str
    counted: Amounts
    spent: Amounts
    has_cost: bool = False
    incarnation: str
    revision: int
    forgot: bool
