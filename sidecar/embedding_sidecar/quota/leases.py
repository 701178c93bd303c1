"""The ledger: one sidecar's lease of the policy's day, and its spending.

A sidecar draws a *lease* from the store: calls and tokens that the store counts before the sidecar
spends the first of them. A claim states the lease's size absolutely: keep `floor`, and add up to
`want`. So a claim may be lost, repeated or carried out late (the store ignores one that is older
than the last), and the next one corrects the result. The lease of a dead holder is never touched
again: its rest stays counted until midnight.

Each class of callers has a lease and a ledger of its own, so that neither spends the other's
(`books`). Nothing here reads a clock or a network.
"""

from typing import Final, NamedTuple

from embedding_sidecar.quota.claims import NO_DAY, NOTHING, Amounts, LeaseClaim, LeaseReply, Limits

GRANT_CALLS: Final = 16
"""Calls that a lease holds unspent at most, and that are lost when its holder is killed."""


class Reservation(NamedTuple):
    """One call that may be made, the upper bound of its tokens, and the day it counts to."""

    number: int
    amounts: Amounts
    day: int
    background: bool = False
    """True if the background class's lease pays for it."""


class Ledger:
    """The book of one lease. Spending never exceeds `held`, except through `spend_alone`.

    `limits` are the class's: they bound the sum of all leases when this one grows.
    """

    def __init__(self, *, scope: str, lease: str, background: bool) -> None:
        self._scope = scope
        self._lease = lease
        self.limits = Limits(0, 0)
        self.background = background
        self.is_drawn_from = False
        """The ledger of background work stays untouched in most sidecars."""
        self._sequence = 0
        self._number = 0
        self._expires_at = float("-inf")
        self._start(NO_DAY)

    def _start(self, day: int) -> None:
        self.day = day
        self.held = NOTHING
        # Apart, without an object for each change: every call changes them twice.
        self._used_calls = self._used_tokens = 0
        self.count: LeaseReply | None = None
        self._reported = NOTHING
        self._under_way: dict[int, Amounts] = {}

    @property
    def used(self) -> Amounts:
        """Spent, by the upper bound until that is settled."""
        return Amounts(self._used_calls, self._used_tokens)

    @property
    def rest(self) -> Amounts:
        """Held and not spent."""
        return (self.held - self.used).at_least(NOTHING)

    @property
    def taken(self) -> Amounts:
        """Not for others: held, or spent beyond that."""
        return self.held.at_least(self.used)

    @property
    def unreported(self) -> Amounts:
        """Spent and, as far as this sidecar knows, not reported to the store."""
        return self.used - self._reported

    @property
    def idle(self) -> bool:
        """True if no reservation waits to be settled."""
        return not self._under_way

    def has(self, amounts: Amounts, *, now: float) -> bool:
        """True if this may be spent without asking the store."""
        # The same as `rest` covering what `claim` asks for, without three objects for each call.
        held = self.held
        return (
            now < self._expires_at
            and amounts.calls <= max(0, held.calls - self._used_calls)
            and (
                self.limits.tokens is None
                or amounts.tokens <= max(0, held.tokens - self._used_tokens)
            )
        )

    def spend(self, amounts: Amounts) -> Reservation:
        """Spend amounts that `has` found."""
        self._number += 1
        self._used_calls += amounts.calls
        self._used_tokens += amounts.tokens
        self._under_way[self._number] = amounts
        return Reservation(self._number, amounts, self.day, self.background)

    def start_day_of(self, day: int, *, now: float) -> None:
        """Start a new day by this machine's clock, unless the store's day is known to last."""
        if day > self.day and now >= self._expires_at:
            self._start(day)

    def spend_alone(self, amounts: Amounts, *, others: Amounts) -> Reservation | str:
        """Spend as if others had taken this and no more; or the limit that is too low."""
        # The same as `limits.short` of all three, without two objects for each call.
        calls, tokens = self.limits
        if calls is not None and others.calls + self._used_calls + amounts.calls > calls:
            return "calls"
        if tokens is not None and others.tokens + self._used_tokens + amounts.tokens > tokens:
            return "tokens"
        return self.spend(amounts)

    def limit(self, limits: Limits) -> None:
        """Change the limits. The rest that was drawn within the old ones is not spent any more."""
        self.limits = limits
        self.held = self.used

    def left(self, *, others: Amounts) -> Limits:
        """The rest of each limit, drawn or not, if others have taken this."""
        # The same as `limits.without` both, without two objects for each answer.
        calls, tokens = self.limits
        return Limits(
            None if calls is None else max(0, calls - others.calls - self._used_calls),
            None if tokens is None else max(0, tokens - others.tokens - self._used_tokens),
        )

    def settle(self, reservation: Reservation, *, cost: Amounts) -> None:
        """Replace an upper bound by the real cost.

        A second settling changes nothing, nor does one of a day that is over.
        """
        bound = self._under_way.pop(reservation.number, None)
        if bound is not None:
            self._used_calls += cost.calls - bound.calls
            self._used_tokens += cost.tokens - bound.tokens

    def claim(self, amounts: Amounts, *, ahead: int, now: float) -> LeaseClaim:
        """Claim enough to spend this, and if possible `ahead` times as much."""
        if now >= self._expires_at:
            self.held = self.used
        # Tokens without a limit are only counted. Calls without one are drawn in grants, so that
        # the store counts them.
        limited = Amounts(amounts.calls, 0 if self.limits.tokens is None else amounts.tokens)
        missing = (limited - self.rest).at_least(NOTHING)
        return self.report(need=missing, want=(limited.times(ahead) - self.rest).at_least(missing))

    def give_back(self) -> LeaseClaim:
        """Release the rest: here at once, as the store may do so at any time from now on."""
        self.held = self.used
        return self.report()

    def report(self, *, need: Amounts = NOTHING, want: Amounts = NOTHING) -> LeaseClaim:
        """Report the spending, keep the rest, and claim `need` to `want` more."""
        self._sequence += 1
        return LeaseClaim(
            scope=self._scope,
            lease=self._lease,
            sequence=self._sequence,
            day=self.day,
            limits=self.limits,
            floor=self.taken,
            spent=self.used,
            need=need,
            want=want,
            seen=self.count,
        )

    def enter(self, count: LeaseReply, *, claim: LeaseClaim, asked_at: float) -> None:
        """Book the answer to the last claim, which was sent at `asked_at`.

        The store's day is counted from `asked_at`, so that it ends here no later than there.
        """
        is_new = count.day != self.day
        if is_new:
            self._start(count.day)
        # A rest that was drawn within other limits goes back with the next claim.
        self.held = count.held if claim.limits == self.limits else self.used
        self.count = count
        self._reported = NOTHING if is_new else claim.spent
        self._expires_at = asked_at + count.day_ends_in_seconds
