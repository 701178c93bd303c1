"""The ledger: what one sidecar holds of a policy's day, and what it has spent of it.

A sidecar draws a *lease* from the store: calls and tokens that are counted for it, in the store,
before it spends the first of them. The store keeps, for each lease, how much is counted; a claim
states that figure anew, absolutely: keep `floor` for me, and give me up to `want` more. So a claim
may be lost, repeated or carried out late (the store ignores one that is older than the last it
obeyed), and the next one sets right whatever came of it. A lease whose holder is dead is never
touched again: what it did not spend stays counted until midnight.

Each class of callers has a lease and a ledger of its own, so that none spends what was counted for
the other (`books`). Nothing here reads a clock or a network.
"""

from typing import Final, NamedTuple

from embedding_sidecar.quotas.claims import NO_DAY, NOTHING, Amounts, Claim, Count, Limits, Seen

GRANT_CALLS: Final = 16
"""Calls a lease holds unspent at most, so also what the policy loses when its holder is killed."""


class Reservation(NamedTuple):
    """One call that may be made, the most tokens it may be billed, and the day it counts to."""

    number: int
    amounts: Amounts
    day: int
    background: bool = False
    """Whether it was taken from the lease of that class."""


class Ledger:
    """The book of one lease. Spending never exceeds `held`, except through `spend_alone`.

    `limits` are those of the class that spends from it: what all leases together may come to when
    this one is given more.
    """

    def __init__(self, *, scope: str, lease: str, limits: Limits, background: bool = False) -> None:
        self._scope = scope
        self._lease = lease
        self._limits = limits
        self._background = background
        self._sequence = 0
        self._number = 0
        self._expires_at = float("-inf")
        self._start(NO_DAY)

    def _start(self, day: int) -> None:
        self.day = day
        self.held = NOTHING
        self._used_calls = self._used_tokens = 0
        self.count: Count | None = None
        self._reported = NOTHING
        self._under_way: dict[int, Amounts] = {}

    @property
    def used(self) -> Amounts:
        """What is spent, by its bound where that is not settled."""
        return Amounts(self._used_calls, self._used_tokens)

    @property
    def rest(self) -> Amounts:
        """What is held and not spent."""
        return (self.held - self.used).at_least(NOTHING)

    @property
    def taken(self) -> Amounts:
        """What nobody else may spend: what is held, or spent beyond that."""
        return self.held.at_least(self.used)

    @property
    def unreported(self) -> Amounts:
        """What is spent and the store was not told yet, as far as this sidecar knows."""
        return self.used - self._reported

    @property
    def idle(self) -> bool:
        """Whether no reservation waits for its settling."""
        return not self._under_way

    def has(self, amounts: Amounts, *, now: float) -> bool:
        """Whether this may be spent without asking the store."""
        # As `rest` covers `_limited(amounts)`, without making three values for each call.
        held = self.held
        return (
            now < self._expires_at
            and amounts.calls <= max(0, held.calls - self._used_calls)
            and (
                self._limits.tokens is None
                or amounts.tokens <= max(0, held.tokens - self._used_tokens)
            )
        )

    def spend(self, amounts: Amounts) -> Reservation:
        """Take what `has` said is there."""
        self._number += 1
        self._used_calls += amounts.calls
        self._used_tokens += amounts.tokens
        self._under_way[self._number] = amounts
        return Reservation(self._number, amounts, self.day, self._background)

    def turn(self, day: int, *, now: float) -> None:
        """Start a new day by this machine's clock, unless the store's day is known to last on."""
        if day > self.day and now >= self._expires_at:
            self._start(day)

    def spend_alone(self, amounts: Amounts, *, others: Amounts) -> Reservation | str:
        """Take it as if the others had taken this and nothing since.

        Else say which limit is too low.
        """
        # As `limits.short` of all three together, without making two values for each call.
        limits = self._limits
        calls = others.calls + self._used_calls + amounts.calls
        if limits.calls is not None and calls > limits.calls:
            return "calls"
        tokens = others.tokens + self._used_tokens + amounts.tokens
        if limits.tokens is not None and tokens > limits.tokens:
            return "tokens"
        return self.spend(amounts)

    def limit(self, limits: Limits) -> None:
        """Go by other limits. What was drawn within the old ones is not spent any more."""
        self._limits = limits
        self.held = self.used

    def left(self, *, others: Amounts) -> tuple[int | None, int | None]:
        """Calls and tokens that may still be spent, drawn or not, where the others have taken this.

        None: without a limit.
        """
        calls, tokens = self._limits.calls, self._limits.tokens
        return (
            None if calls is None else max(0, calls - others.calls - self._used_calls),
            None if tokens is None else max(0, tokens - others.tokens - self._used_tokens),
        )

    def settle(self, reservation: Reservation, *, cost: Amounts) -> None:
        """Replace a bound by what was billed.

        A second settling changes nothing, nor does one of a day that is over.
        """
        bound = self._under_way.pop(reservation.number, None)
        if bound is not None:
            self._used_calls += cost.calls - bound.calls
            self._used_tokens += cost.tokens - bound.tokens

    def claim(self, amounts: Amounts, *, ahead: int, now: float) -> Claim:
        """Ask for what is missing to spend this, and if possible `ahead` times as much."""
        if now >= self._expires_at:
            self.held = self.used
        limited = self._limited(amounts)
        missing = (limited - self.rest).at_least(NOTHING)
        return self._claim(need=missing, want=(limited.times(ahead) - self.rest).at_least(missing))

    def report(self) -> Claim:
        """Say what was spent; keep the rest."""
        return self._claim(need=NOTHING, want=NOTHING)

    def give_back(self) -> Claim:
        """Let go of the rest: at once, as the store may do so at any time from now on."""
        self.held = self.used
        return self._claim(need=NOTHING, want=NOTHING)

    def enter(self, count: Count, *, claim: Claim, asked_at: float) -> None:
        """Book the answer to the last claim, which was sent at `asked_at`.

        The day ends by the store's clock. Counted from the moment of asking it ends here no later
        than there, however long the answer took.
        """
        is_new = count.day != self.day
        if is_new:
            self._start(count.day)
        # What was drawn within limits that no longer hold goes back with the next claim.
        self.held = count.held if claim.limits == self._limits else self.used
        self.count = count
        self._reported = NOTHING if is_new else claim.spent
        self._expires_at = asked_at + count.day_ends_in_seconds

    def _limited(self, amounts: Amounts) -> Amounts:
        # Tokens without a limit are only counted. Calls without one are still drawn in grants, so
        # that the store hears of them.
        return Amounts(amounts.calls, 0 if self._limits.tokens is None else amounts.tokens)

    def _claim(self, *, need: Amounts, want: Amounts) -> Claim:
        self._sequence += 1
        count = self.count
        return Claim(
            scope=self._scope,
            lease=self._lease,
            sequence=self._sequence,
            day=self.day,
            limits=self._limits,
            floor=self.taken,
            spent=self.used,
            need=need,
            want=want,
            seen=Seen(
                incarnation=count.incarnation,
                revision=count.revision,
                counted=count.counted,
            )
            if count
            else Seen(),
        )
