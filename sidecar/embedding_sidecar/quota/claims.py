"""A claim of a part of the policy's day, and the store's answer."""

import operator
from dataclasses import dataclass
from typing import Final, NamedTuple

NO_DAY: Final = -1
DAY_SECONDS: Final = 86_400


class Amounts(NamedTuple):
    """An amount of each unit that is counted."""

    calls: int = 0
    tokens: int = 0

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

    def covers(self, other: "Amounts") -> bool:
        """True if none is smaller than the other's."""
        return all(map(operator.ge, self, other))


NOTHING: Final = Amounts()


class Limits(NamedTuple):
    """The most of each unit in a policy's day; None is no limit."""

    calls: int | None
    tokens: int | None

    @property
    def open(self) -> bool:
        """True if nothing is limited."""
        return self.count(None) == len(self)

    def without(self, taken: Amounts) -> "Limits":
        """The rest of each limit beside amounts that are taken, or reserved for others."""
        return Limits(*map(_rest, self, taken))

    def short(self, amounts: Amounts) -> str:
        """The first unit whose limit the amounts exceed; empty for none."""
        for unit, limit, it in zip(self._fields, self, amounts, strict=True):
            if limit is not None and it > limit:
                return unit
        return ""


def _rest(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseClaim:
    """The wanted size of a lease: `floor`, and up to `want` more if at least `need` is left.

    `limits` bound the sum of all leases when this one grows. Those of background work are without
    the part that is reserved for applications.

    `day` is the UTC day since 1970 of `floor`, `spent` and `seen`. Where the store's day is another
    one, they count as nothing; if it is an earlier one, the lease stays as it is. `sequence` grows
    with every claim of a lease. `seen` is the store's last answer of the day: a store that shows
    less has forgotten, and gets `counted` back.
    """

    scope: str
    lease: str
    sequence: int
    day: int
    limits: Limits
    floor: Amounts = NOTHING
    spent: Amounts = NOTHING
    need: Amounts = NOTHING
    want: Amounts = NOTHING
    seen: "LeaseReply | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReply:
    """The store's answer to a claim.

    `held` is the lease's size now. `short` names the limit that left less than was needed; then
    nothing was added. `counted` is the sum of the day's leases, `spent` the sum that their holders
    have reported. `incarnation` changes when a store that forgot is restored; `revision` grows with
    every claim. `forgot`: the store has forgotten claims of this day.
    """

    day: int
    day_ends_in_seconds: float
    held: Amounts
    short: str
    counted: Amounts
    spent: Amounts
    incarnation: str
    revision: int
    forgot: bool
