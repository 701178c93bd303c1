"""A claim of a part of the policy's day, and the store's answer."""

from dataclasses import dataclass
from typing import Final

NO_DAY: Final = -1
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Amounts:
    """Calls and tokens."""

    calls: int = 0
    tokens: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.calls + other.calls, self.tokens + other.tokens)

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.calls - other.calls, self.tokens - other.tokens)

    def times(self, factor: int) -> "Amounts":
        """Both times `factor`."""
        return Amounts(self.calls * factor, self.tokens * factor)

    def at_least(self, other: "Amounts") -> "Amounts":
        """The greater of each."""
        return Amounts(max(self.calls, other.calls), max(self.tokens, other.tokens))

    def covers(self, other: "Amounts") -> bool:
        """True if neither is smaller than the other's."""
        return self.calls >= other.calls and self.tokens >= other.tokens


NOTHING: Final = Amounts()


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls and tokens of a policy's day; None is no limit."""

    calls: int | None
    tokens: int | None

    @property
    def open(self) -> bool:
        """True if nothing is limited."""
        return self.calls is None and self.tokens is None

    def without(self, reserve: Amounts) -> "Limits":
        """Each limit without the part that is for others."""
        return Limits(
            None if self.calls is None else max(0, self.calls - reserve.calls),
            None if self.tokens is None else max(0, self.tokens - reserve.tokens),
        )

    def short(self, amounts: Amounts) -> str:
        """The limit that the amounts exceed: `calls`, `tokens`, or empty for neither."""
        if self.calls is not None and amounts.calls > self.calls:
            return "calls"
        if self.tokens is not None and amounts.tokens > self.tokens:
            return "tokens"
        return ""


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
