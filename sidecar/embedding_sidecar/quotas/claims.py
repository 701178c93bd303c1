"""What a sidecar claims of a policy's day, and what the store that counts it answers."""

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
        """Both, `factor` times."""
        return Amounts(self.calls * factor, self.tokens * factor)

    def at_least(self, other: "Amounts") -> "Amounts":
        """The greater of each."""
        return Amounts(max(self.calls, other.calls), max(self.tokens, other.tokens))

    def covers(self, other: "Amounts") -> bool:
        """Whether neither is smaller than the other's."""
        return self.calls >= other.calls and self.tokens >= other.tokens


NOTHING: Final = Amounts()


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls and tokens of a policy's day; None is no limit."""

    calls: int | None
    tokens: int | None

    @property
    def open(self) -> bool:
        """Whether nothing is limited."""
        return self.calls is None and self.tokens is None

    def without(self, reserve: Amounts) -> "Limits":
        """What is left of each limit, where that much of it is for others."""
        return Limits(
            None if self.calls is None else max(0, self.calls - reserve.calls),
            None if self.tokens is None else max(0, self.tokens - reserve.tokens),
        )

    def short(self, amounts: Amounts) -> str:
        """Which limit the amounts exceed: `calls`, `tokens`, or empty for neither."""
        if self.calls is not None and amounts.calls > self.calls:
            return "calls"
        if self.tokens is not None and amounts.tokens > self.tokens:
            return "tokens"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far the store was when this sidecar last looked.

    `incarnation` changes when a store that forgot is restored; `revision` grows with every claim.
    A store that shows less has forgotten, and gets `counted` back.
    """

    incarnation: str = ""
    revision: int = 0
    counted: Amounts = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a lease is to be: `floor`, and up to `want` more if at least `need` is left.

    `limits` are what all leases together may come to when this one is given more. Of background
    work they are the day's without what is reserved for applications, so that the store leaves
    that much of the day, whoever else claims.

    `day` is the UTC day since 1970 that `floor`, `spent` and `seen` are of; where the store's day
    is another, they count as nothing, and a lease it has of an earlier day than `day` stays as it
    is. `sequence` grows with every claim of a lease.
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
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The store's answer to a claim.

    `held` is what the lease is now. `short` names the limit that left less than was needed; then
    nothing was added. `counted` is the sum of all leases of the day, `spent` the sum of what their
    holders have said they spent. `forgot`: the store has forgotten claims of this day.
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
