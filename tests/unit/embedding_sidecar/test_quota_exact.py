"""Many sidecars, crashes, pauses, midnight and a bad network: the limit holds, the loss is bounded.

Every message may be carried out late, twice or not at all, and its answer may be late or lost.
"""

import asyncio
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
from embedding_sidecar.quotas import claims, counter, leases, quota
from tests.fakes.quota_store import FakeStore
from tests.parts.settling import settled

WHICH = st.integers(min_value=0, max_value=1_000_000)
TOKENS = st.integers(min_value=1, max_value=60)
START = 20_000 * claims.DAY_SECONDS + 43_200


@dataclass
class Message:
    claim: claims.Claim
    answer: asyncio.Future[claims.Count]
    counts: list[claims.Count] = field(default_factory=list)


class Network:
    """What was sent to the store, in the order of sending."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def claim(self, claim: claims.Claim) -> claims.Count:
        message = Message(claim, asyncio.get_running_loop().create_future())
        self.messages.append(message)
        return await message.answer

    async def durability(self) -> str:
        return ""


@dataclass
class Call:
    day: int
    reservation: leases.Reservation
    tokens: int


@dataclass
class Sidecar:
    quota: quota.Quota
    tasks: list[asyncio.Task[object]] = field(default_factory=list)
    asking: list[asyncio.Task[object]] = field(default_factory=list)
    under_way: list[Call] = field(default_factory=list)


class Policy(RuleBasedStateMachine):
    """Sidecars are stopped and started at will: nothing moves but by a rule."""

    @initialize(
        calls=st.sampled_from([0, 1, 20, 300, 1000]),
        tokens=st.sampled_from([None, None, 0, 500, 20_000]),
    )
    def begin(self, calls, tokens):
        self.limits = claims.Limits(calls, tokens)
        self.highest: dict[int, claims.Limits] = {}
        self.daily = document.Quota(daily_requests=calls, daily_tokens=tokens)
        self.loop = asyncio.new_event_loop()
        self.now = float(START)
        self.store = FakeStore(lambda: self.now)
        self.network = Network()
        self.living: list[Sidecar] = []
        self.dead = 0
        self.calls: dict[int, int] = {}
        self.tokens: dict[int, int] = {}

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        self.end_well()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turn()
        self.loop.close()

    def turn(self):
        """Let every sidecar do what it can without an answer."""
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))

    def start(self, sidecar, work):
        task = self.loop.create_task(work)
        sidecar.tasks.append(task)
        return task

    def today(self):
        return int(self.now // claims.DAY_SECONDS)

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
    )
    def requests_arrive(self, which, bound, requests, heard):
        sidecar = pick(self.living, which)
        for _ in range(requests):
            sidecar.asking.append(self.start(sidecar, self.request(sidecar, bound)))
        self.turn()
        if heard:
            self.answer_all()

    async def request(self, sidecar, bound):
        try:
            reservation = await sidecar.quota.reserve(tokens=bound)
        except (errors.QuotaExhausted, errors.Unavailable):
            return
        # From here on the call may have been made, and so it counts, whatever comes.
        day = reservation.day
        assert day == self.today()
        self.calls[day] = self.calls.get(day, 0) + 1
        self.tokens[day] = self.tokens.get(day, 0) + bound
        # What was granted within limits that no longer hold is not spent.
        assert not self.limits.short(claims.Amounts(self.calls[day], 0))
        if self.highest_of(day).tokens is not None:
            assert not self.limits.short(claims.Amounts(0, self.tokens[day]))
        sidecar.under_way.append(Call(day, reservation, bound))

    @precondition(lambda self: any(sidecar.under_way for sidecar in self.living))
    @rule(which=WHICH, billed=st.booleans(), share=st.integers(min_value=0, max_value=4))
    def a_call_ends(self, which, billed, share):
        sidecar = pick([sidecar for sidecar in self.living if sidecar.under_way], which)
        call = sidecar.under_way.pop(which % len(sidecar.under_way))
        tokens = call.tokens * share // 4 if billed else 0
        self.calls[call.day] -= 0 if billed else 1
        self.tokens[call.day] -= call.tokens - tokens
        self.start(sidecar, settled(sidecar.quota, call.reservation, billed=billed, tokens=tokens))
        self.turn()

    @precondition(lambda self: self.network.messages)
    @rule(which=WHICH)
    def the_store_obeys(self, which):
        """A message, whenever it was sent, also one that nobody waits for, also again."""
        message = pick(self.network.messages, which)
        message.counts.append(self.store.carry_out(message.claim))

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
            self.turn()

    @precondition(lambda self: self.network.messages)
    @rule(which=WHICH)
    def a_sidecar_waits_no_longer(self, which):
        message = pick(self.network.messages, which)
        if not message.answer.done():
            message.answer.set_exception(errors.StoreAway("too late"))
            self.turn()

    @precondition(lambda self: any(sidecar.asking for sidecar in self.living))
    @rule(which=WHICH)
    def an_application_hangs_up(self, which):
        sidecar = pick([sidecar for sidecar in self.living if sidecar.asking], which)
        sidecar.asking.pop(which % len(sidecar.asking)).cancel()
        self.turn()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def somebody_looks(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, sidecar.quota.state())
        self.turn()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_sidecar_is_idle(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, sidecar.quota.give_back())
        self.turn()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_sidecar_is_killed(self, which):
        killed = self.living.pop(which % len(self.living))
        self.dead += 1
        for task in killed.tasks:
            task.cancel()
        self.turn()

    @precondition(lambda self: self.living)
    @rule(which=WHICH)
    def a_policy_change_closes_a_quota(self, which):
        sidecar = pick(self.living, which)
        self.start(sidecar, sidecar.quota.close())
        self.turn()

    @rule(calls=st.sampled_from([0, 20, 300, 1000]), tokens=st.sampled_from([None, 500, 20_000]))
    def the_policy_is_edited(self, calls, tokens):
        """Its new limits reach every sidecar at once, whatever each is waiting for."""
        self.keep_highest()
        self.limits = claims.Limits(calls, tokens)
        self.daily = document.Quota(daily_requests=calls, daily_tokens=tokens)
        for sidecar in self.living:
            sidecar.quota.obey(self.daily, store=self.network)
        self.turn()

    @rule(seconds=st.sampled_from([0.1, 1.5, 60.0]))
    def time_passes(self, seconds):
        self.keep_highest()
        self.now += seconds
        self.turn()

    @rule(seconds=st.sampled_from([-0.5, 0.0, 0.5]))
    def midnight_comes(self, seconds):
        self.keep_highest()
        midnight = (self.today() + 1) * claims.DAY_SECONDS
        self.now = max(self.now, midnight + seconds)
        self.turn()

    @invariant()
    def what_is_spent_was_counted_before_and_what_is_counted_is_allowed(self):
        for day, calls in getattr(self, "calls", {}).items():
            counted = self.store.days["team/policy", day].counted
            assert calls <= counted.calls
            if self.highest_of(day).tokens is not None:
                assert self.tokens[day] <= counted.tokens
            assert not self.highest_of(day).short(counted)

    def highest_of(self, day):
        """The highest limits that held on a day; what had none for a while was only counted."""
        kept = self.highest.get(day, claims.Limits(0, 0))
        if day != self.today():
            return kept
        return claims.Limits(
            higher(kept.calls, self.limits.calls), higher(kept.tokens, self.limits.tokens)
        )

    def keep_highest(self):
        self.highest[self.today()] = self.highest_of(self.today())

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
            assert 0 <= lost <= self.dead * leases.GRANT_CALLS

    def answer_all(self):
        self.turn()
        while waiting := [m for m in self.network.messages if not m.answer.done()]:
            for message in waiting:
                message.counts.append(self.store.carry_out(message.claim))
                message.answer.set_result(message.counts[0])
            self.turn()


def higher(first, second):
    return None if None in (first, second) else max(first, second)


def pick(things, which):
    return things[which % len(things)]


Policy.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, report_multiple_bugs=False
)
TestPolicy = Policy.TestCase
