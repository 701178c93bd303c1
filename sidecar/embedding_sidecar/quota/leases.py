"""The ledger: one sidecar's lease of the policy's day or month, and its spending.

A sidecar draws a *lease* from the store: calls, tokens and money that the store counts before the
sidecar spends the first of them. A claim states the lease's size absolutely: keep `floor`, and add
up to `want`. So a claim may be lost, repeated or carried out late (the store ignores one that is
older than the last), and the next one corrects the result. The lease of a dead holder is never
touched again: its rest stays counted until the period ends.

Each class of callers has a lease and a ledger of its own, so that neither spends the other's
(`books`). Nothing here reads a clock or a network.
"""

from typing import NamedTuple

from embedding_sidecar.quota.claims import (
    NO_LIMITS,
    NOTHING,
    Amounts,
    LeaseClaim,
    LeaseReply,
    Limits,
)
from embedding_sidecar.quota.periods import NO_NUMBER, Period


class Reservation(NamedTuple):
    """One call that may be made, the bound of what it costs, and the period it counts to."""

    serial: int
    amounts: Amounts
    number: int
    background: bool = False
    """True if the background class's lease pays for it."""
    month: "Reservation | None" = None
    """The same call in the policy's month, where that is limited."""
    beyond: tuple[str, ...] = ()
    """The limits that the call exceeds, while those are only observed; such as `day.requests`."""


class Ledger:
    """The book of one lease. Spending never exceeds `held`, except through `spend_alone`.

    `limits` are the class's, and say what is drawn. `bounds` bound the sum of all leases when this
    one grows: the same, or none while the limits are only observed.
    """

    def __init__(self, *, scope: str, period: Period, lease: str, background: bool) -> None:
        self._scope = scope
        self.period = period
        self._lease = lease
        self.limits = self.bounds = Limits(0, 0)
        self.is_open = False
        """True if nothing bounds the leases."""
        self.background = background
        self.is_drawn_from = False
        """The ledger of background work stays untouched in most sidecars."""
        self._sequence = 0
        self._serial = 0
        self._expires_at = float("-inf")
        self._start(NO_NUMBER)

    def _start(self, number: int) -> None:
        self.number = number
        self.held = NOTHING
        # Apart, without an object for each change: every call changes them twice.
        self._used_calls = self._used_tokens = self._used_cost = 0
        self.count: LeaseReply | None = None
        self._reported = NOTHING
        self._under_way: dict[int, Amounts] = {}

    @property
    def used(self) -> Amounts:
        """Spent, by the upper bound until that is settled."""
        return Amounts(self._used_calls, self._used_tokens, self._used_cost)

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
        if now >= self._expires_at:
            return False
        calls, tokens, cost = amounts
        held_calls, held_tokens, held_cost = self.held
        _, limit_tokens, limit_cost = self.limits
        return (
            calls <= max(0, held_calls - self._used_calls)
            and (limit_tokens is None or tokens <= max(0, held_tokens - self._used_tokens))
            and (limit_cost is None or cost <= max(0, held_cost - self._used_cost))
        )

    def spend(self, amounts: Amounts, month: Reservation | None = None) -> Reservation:
        """Spend amounts that `has` found, and the same call's of the month."""
        calls, tokens, cost = amounts
        self._used_calls += calls
        self._used_tokens += tokens
        self._used_cost += cost
        self._serial = serial = self._serial + 1
        self._under_way[serial] = amounts
        return Reservation(serial, amounts, self.number, self.background, month)

    def start_period(self, number: int, *, now: float) -> None:
        """Start a new period by this machine's clock, unless the store's is known to last."""
        if number > self.number and now >= self._expires_at:
            self._start(number)

    def spend_alone(self, amounts: Amounts, *, others: Amounts) -> Reservation | str:
        """Spend as if others had taken this and no more; or the limit that is too low."""
        if self.is_open:
            return self.spend(amounts)
        # The same as `bounds.short` of all three, without two objects for each call.
        calls, tokens, cost = self.bounds
        if calls is not None and others.calls + self._used_calls + amounts.calls > calls:
            return "calls"
        if tokens is not None and others.tokens + self._used_tokens + amounts.tokens > tokens:
            return "tokens"
        if cost is not None and others.cost + self._used_cost + amounts.cost > cost:
            return "cost"
        return self.spend(amounts)

    def limit(self, limits: Limits, *, observes: bool = False) -> None:
        """Change the limits. The rest that was drawn within the old ones is not spent any more."""
        self.limits = limits
        self.bounds = NO_LIMITS if observes else limits
        self.is_open = self.bounds.open
        self.held = self.used

    def left(self, *, others: Amounts) -> Limits:
        """The rest of each limit, drawn or not, if others have taken this."""
        # The same as `limits.without` both, without two objects for each answer.
        calls, tokens, cost = self.bounds
        return Limits(
            None if calls is None else max(0, calls - others.calls - self._used_calls),
            None if tokens is None else max(0, tokens - others.tokens - self._used_tokens),
            None if cost is None else max(0, cost - others.cost - self._used_cost),
        )

    def settle(self, reservation: Reservation, *, cost: Amounts) -> None:
        """Replace an upper bound by the real cost, from nothing to the bound.

        A second settling changes nothing, nor does one of a period that is over.
        """
        bound = self._under_way.pop(reservation.serial, None)
        if bound is not None:
            most_calls, most_tokens, most_cost = bound
            calls, tokens, paid = cost
            # A provider may report any usage; none bills more tokens than the bound.
            if not 0 <= tokens <= most_tokens:
                tokens = max(0, min(tokens, most_tokens))
            if not 0 <= paid <= most_cost:
                paid = max(0, min(paid, most_cost))
            self._used_calls += calls - most_calls
            self._used_tokens += tokens - most_tokens
            self._used_cost += paid - most_cost

    def claim(self, amounts: Amounts, *, ahead: int, now: float) -> LeaseClaim:
        """Claim enough to spend this, and if possible `ahead` times as much."""
        if now >= self._expires_at:
            self.held = self.used
        # Tokens without a limit are only counted. Calls without one are drawn in grants, so that
        # the store counts them.
        limits = self.limits
        limited = Amounts(
            amounts.calls,
            0 if limits.tokens is None else amounts.tokens,
            0 if limits.cost is None else amounts.cost,
        )
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
            period=self.period,
            lease=self._lease,
            sequence=self._sequence,
            number=self.number,
            limits=self.bounds,
            has_cost=self.limits.cost is not None,
            floor=self.taken,
            spent=self.used,
            need=need,
            want=want,
            seen=self.count,
        )

    def enter(self, count: LeaseReply, *, claim: LeaseClaim, asked_at: float) -> None:
        """Book the answer to the last claim, which was sent at `asked_at`.

        The period is counted from `asked_at`, so that it ends here no later than in the store.
        """
        is_new = count.number != self.number
        if is_new:
            self._start(count.number)
        # A rest that was drawn within other limits goes back with the next claim.
        self.held = count.held if claim.limits == self.bounds else self.used
        self.count = count
        self._reported = NOTHING if is_new else claim.spent
        self._expires_at = asked_at + count.ends_in_seconds
