"""Many sidecars, crashes, pauses, midnight and a bad network: limits hold, the loss is bounded.

Limits are in calls, tokens and money of a day, and in calls of a month, which soon ends. Every
message may be carried out late, twice or not at all, and its answer may be late or lost.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota import claims, counter, leases, periods, quota
from tests.fakes.quota_store import FakeStore
from tests.parts.callbacks import draw
from tests.parts.settling import give_back, settled

WHICH = st.integers(min_value=0, max_value=1_000_000)
TOKENS = st.integers(min_value=1, max_value=60)
RESERVES = st.sampled_from([claims.Amounts(), claims.Amounts(10, 250), claims.Amounts(250, 10_000)])
NONE = claims.NOTHING
PRICE = 20 * 10**6
"""Nano-dollars of a million tokens: 20 of each."""
SCOPE = "team/policy"
START = 20_026 * periods.DAY_SECONDS + 43_200
"""Noon of the last but one day of a month."""


@dataclass
class Message:
    claim: claims.LeaseClaim
    ceiling: claims.Limits
    """What background work could have of the day when it was sent."""
    answer: asyncio.Future[claims.LeaseReply]
    counts: list[claims.LeaseReply] = field(default_factory=list)


class Network:
    """What was sent to the store, in the order of sending."""

    def __init__(self, ceiling: Callable[[], claims.Limits]) -> None:
        self.messages: list[Message] = []
        self.ceiling = ceiling

    async def claim(self, claim: claims.LeaseClaim) -> claims.LeaseReply:
        message = Message(claim, self.ceiling(), asyncio.get_running_loop().create_future())
        self.messages.append(message)
        return await message.answer

    async def durability(self) -> str:
        return ""


@dataclass
class Call:
    day: int
    reservation: leases.Reservation
    tokens: int
    price: int


@dataclass
class Sidecar:
    quota: quota.Quota
    has_background: bool = False
    tasks: list[asyncio.Task[object]] = field(default_factory=list)
    asking: list[asyncio.Task[object]] = field(default_factory=list)
    under_way: list[Call] = field(default_factory=list)


class Policy(RuleBasedStateMachine):
    """Sidecars are stopped and started at will: nothing moves but by a rule."""

    @initialize(
        calls=st.sampled_from([0, 1, 20, 300, 1000]),
        tokens=st.sampled_from([None, None, 0, 500, 20_000]),
        cost=st.sampled_from([None, None, 0, 7_777, 300_000]),
        of_month=st.sampled_from([None, None, 0, 5, 100]),
        reserve=RESERVES,
    )
    def begin(self, calls, tokens, cost, of_month, reserve):
        self.of_month = of_month
        self.calls_of_month: Counter[int] = Counter()
        self.highest: dict[int, claims.Limits] = {}
        self.of_background: set[str] = set()
        self.begin_terms(calls, tokens, cost, reserve)
        self.loop = asyncio.new_event_loop()
        self.now = float(START)
        self.store = FakeStore(lambda: self.now)
        self.network = Network(lambda: self.ceiling)
        self.living: list[Sidecar] = []
        self.lost_leases = 0
        self.calls: dict[int, int] = {}
        self.tokens: dict[int, int] = {}
        self.cost: Counter[int] = Counter()

    def begin_terms(self, calls, tokens, cost, reserve):
        self.limits = claims.Limits(calls, tokens, cost)
        self.ceiling = self.limits.without(reserve._replace(cost=-(-(cost or 0) // 4)))
        self.daily = document.Quota(
            daily_requests=calls,
            daily_tokens=tokens,
            reserved_requests=reserve.calls,
            reserved_tokens=reserve.tokens,
            daily_cost=cost,
            monthly_requests=self.of_month,
            reserved_percent=25,
        )

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        self.end_well()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.start_day_of()
        self.loop.close()

    def start_day_of(self):
        """Let every sidecar do what it can without an answer."""
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))

    def start(self, sidecar, work):
        task = self.loop.create_task(work)
        sidecar.tasks.append(task)
        return task

    def today(self):
        return int(self.now // periods.DAY_SECONDS)

    @precondition(lambda self: len(self.living) < 3)
    @rule()
    def a_sidecar_starts(self):
        self.living.append(
            Sidecar(
                quota.Quota(
                    limits=self.daily,
                    scope="team/policy",
                    store=self.network,
                    clock=lambda: self.now - START,
                    wall_clock=lambda: self.now,
                )
            )
        )

    @precondition(lambda self: self.living)
    @rule(
        which=WHICH,
        bound=TOKENS,
        requests=st.sampled_from([1, 1, 2, 20]),
        heard=st.booleans(),
        background=st.booleans(),
    )
    def requests_arrive(self, which, bound, requests, heard, background):
        sidecar = pick(self.living, which)
        if background:
            sidecar.has_background = True
            self.of_background.add(sidecar.quota.day.shares[True].ledger._lease)
        # A call counts in money if money was limited when it came.
        price = 0 if self.limits.cost is None else PRICE
        for _ in range(requests):
            asking = self.request(sidecar, bound, background, price)
            sidecar.asking.append(self.start(sidecar, asking))
        self.start_day_of()
        if heard:
            self.answer_all()

    async def request(self, sidecar, bound, background, price):
        try:
            reservation = await draw(
                sidecar.quota, tokens=bound, background=background, price=price
            )
        except (errors.QuotaExhausted, errors.Unavailable):
            return
        # From here on the call may have been made, and so it counts, whatever comes.
        day = reservation.number
        # The month may have answered after midnight.
        assert day == self.today() or (reservation.month and day == self.today() - 1)
        if reservation.month:
            self.calls_of_month[reservation.month.number] += 1
        self.calls[day] = self.calls.get(day, 0) + 1
        self.tokens[day] = self.tokens.get(day, 0) + bound
        self.cost[day] += bound * price // 10**6
        # What was granted within limits that no longer hold is not spent.
        spent = self.spent(day)
        highest = self.highest_of(day)
        limits = self.limits if day == self.today() else highest
        assert not limits.short(claims.Amounts(spent.calls))
        if highest.tokens is not None:
            assert not limits.short(claims.Amounts(0, spent.tokens))
        if highest.cost is not None:
            assert not limits.short(claims.Amounts(0, 0, spent.cost))
        sidecar.under_way.append(Call(day, reservation, bound, price))

    @precondition(lambda self: any(sidecar.under_way for sidecar in self.living))
    @rule(which=WHICH, billed=st.booleans(), share=st.integers(min_value=0, max_value=4))
    def a_call_ends(self, which, billed, share):
        sidecar = pick([sidecar for sidecar in self.living if sidecar.under_way], which)
        call = sidecar.under_way.pop(which % len(sidecar.under_way))
        tokens = call.tokens * share // 4 if billed else 0
        self.calls[call.day] -= 0 if billed else 1
        if call.reservation.month and not billed:
            self.calls_of_month[call.reservation.month.number] -= 1
        self.tokens[call.day] -= call.tokens - tokens
        self.cost[call.day] -= (call.tokens - tokens) * call.price // 10**6
        ended = settled(
            sidecar.quota, call.reservation, billed=billed, tokens=tokens, price=call.price
        )
        self.start(sidecar, ended)
        self.start_day_of()

    @precondition(lambda self: self.network.messages)
    @rule(which=WHICH)
    def the_store_obeys(self, which):
        """A message, whenever it was sent, also one that nobody waits for, also again."""
        self.carry_out(pick(self.network.messages, which))

    @precondition(lambda self: self.network.messages)
    @rule()
    def the_network_is_well(self):
        self.answer_all()

    @precondition(lambda self: any(message.counts for message in self.network.messages))
    @rule(which=WHICH)
    def an_answer_arrives(self, which):
        message = pick([message for message in self.network.messages if message.counts], which)
        if not message.answer.done():
            message.answer.set_result(message.counts[0])
            self.start_day_of()

    @precondition(lambda self: self.network.messages)
    @rule(which=WHICH)
    def a_sidecar_waits_no_longer(self, which):
        message = pick(self.network.messages, which)
        if not message.answer.done():
            message.answer.set_exception(errors.StoreAway("too late"))
            self.start_day_of()

    @precondition(lambda self: any(sidecar.asking for sidecar in self.living))
    @rule(which=WHICH)
    def an_application_hangs_up(self, which):
        sidecar = pick([sidecar for sidecar in self.living if sidecar.asking], which)
        sidecar.asking.pop(which % len(sidecar.asking)).cancel()
        self.start_day_of()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def somebody_looks(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, sidecar.quota.state())
        self.start_day_of()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_sidecar_is_idle(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, give_back(sidecar.quota))
        self.start_day_of()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_sidecar_is_killed(self, which):
        killed = self.living.pop(which % len(self.living))
        self.lost_leases += 1 + killed.has_background
        for task in killed.tasks:
            task.cancel()
        self.start_day_of()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_policy_change_closes_a_quota(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, sidecar.quota.close())
        self.start_day_of()

    @rule(
        calls=st.sampled_from([0, 20, 300, 1000]),
        tokens=st.sampled_from([None, 500, 20_000]),
        cost=st.sampled_from([None, 7_777, 300_000]),
        reserve=RESERVES,
    )
    def the_policy_is_edited(self, calls, tokens, cost, reserve):
        """Its new limits reach every sidecar at once, whatever each is waiting for."""
        self.keep_highest()
        self.begin_terms(calls, tokens, cost, reserve)
        for sidecar in self.living:
            sidecar.quota.obey(self.daily, store=self.network)
        self.start_day_of()

    @rule(seconds=st.sampled_from([0.1, 1.5, 60.0]))
    def time_passes(self, seconds):
        self.keep_highest()
        self.now += seconds
        self.start_day_of()

    @rule(seconds=st.sampled_from([-0.5, 0.0, 0.5]))
    def midnight_comes(self, seconds):
        self.keep_highest()
        midnight = (self.today() + 1) * periods.DAY_SECONDS
        self.now = max(self.now, midnight + seconds)
        self.start_day_of()

    @invariant()
    def what_is_spent_was_counted_before_and_what_is_counted_is_allowed(self):
        for day, calls in getattr(self, "calls", {}).items():
            counted = self.store.days["team/policy", day].counted
            assert calls <= counted.calls
            if self.highest_of(day).tokens is not None:
                assert self.tokens[day] <= counted.tokens
            if self.highest_of(day).cost is not None:
                assert self.spent(day).cost <= counted.cost
            assert not self.highest_of(day).short(counted)
        for number, calls in getattr(self, "calls_of_month", {}).items():
            counted = self.store.days[f"{SCOPE}:month", number].counted
            assert calls <= counted.calls <= self.of_month

    def spent(self, day):
        """What may have been spent on a day."""
        return claims.Amounts(self.calls[day], self.tokens[day], self.cost[day])

    def highest_of(self, day):
        """The highest limits that held on a day; what had none for a while was only counted."""
        kept = self.highest.get(day, claims.Limits(0, 0, 0))
        if day != self.today():
            return kept
        return claims.Limits(*(higher(*of_unit) for of_unit in zip(kept, self.limits, strict=True)))

    def keep_highest(self):
        self.highest[self.today()] = self.highest_of(self.today())

    def carry_out(self, message):
        """What background work is given leaves the reserve."""
        claim = message.claim
        if claim.period is periods.MONTH:
            message.counts.append(self.store.carry_out(claim))
            return
        before = self.store.days.get(("team/policy", self.today()))
        had = before.leases[claim.lease].held if before and claim.lease in before.leases else NONE
        count = self.store.carry_out(claim)
        floor = claim.floor if claim.number == count.number else NONE
        if claim.lease in self.of_background and not had.at_least(floor).covers(count.held):
            granted = count.held - had.at_least(floor)
            counted = claims.Amounts(
                count.counted.calls if granted.calls > 0 else 0,
                count.counted.tokens if granted.tokens > 0 else 0,
                count.counted.cost if granted.cost > 0 else 0,
            )
            assert not message.ceiling.short(counted)
        message.counts.append(count)

    def end_well(self):
        """All that live end in peace; then only what the dead held is lost."""
        for _ in range(4):
            self.answer_all()
            self.keep_highest()
            self.now += counter.AWAY_SECONDS
        for sidecar in self.living:
            self.start(sidecar, sidecar.quota.close())
        for _ in range(4):
            self.answer_all()
        self.what_is_spent_was_counted_before_and_what_is_counted_is_allowed()
        today = self.store.days.get(("team/policy", self.today()), None)
        if today is not None:
            lost = today.counted.calls - self.calls.get(self.today(), 0)
            assert 0 <= lost <= self.lost_leases * periods.DAY.grant_calls

    def answer_all(self):
        self.start_day_of()
        while waiting := [m for m in self.network.messages if not m.answer.done()]:
            for message in waiting:
                self.carry_out(message)
                message.answer.set_result(message.counts[0])
            self.start_day_of()


def higher(first, second):
    return None if None in (first, second) else max(first, second)


def pick(things, which):
    return things[which % len(things)]


Policy.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, report_multiple_bugs=False
)
TestPolicy = Policy.TestCase
