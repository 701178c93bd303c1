"""The quota, one sidecar at a time; test_quota_exact.py has many, and a bad network."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota import claims, counter, leases, periods, quota, share
from tests.fakes.quota_store import FakeStore
from tests.parts.callbacks import draw
from tests.parts.settling import held, settled

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HALF_A_DAY = 43_200


class Clock:
    def __init__(self) -> None:
        self.wall = NOON

    def __call__(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.wall - NOON


def nothing() -> object:
    return None


class Line:
    """The way to a store, which can be cut before or after the store has obeyed."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.cut = ""
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.asked = 0
        self.claims: list[claims.LeaseClaim] = []
        self.answer: claims.LeaseReply | None = None
        self.then = nothing

    async def claim(self, claim: claims.LeaseClaim) -> claims.LeaseReply:
        self.asked += 1
        self.claims.append(claim)
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        if self.answer is not None:
            return self.answer
        if self.cut == "before":
            raise errors.StoreAway("cut")
        count = await self.store.claim(claim)
        self.then()
        if self.cut == "after":
            raise errors.StoreAway("cut")
        return count

    async def durability(self) -> str:
        if self.cut:
            raise errors.StoreAway("cut")
        return await self.store.durability()


class Day:
    """A store, its clock, and the sidecars of one policy."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore(self.clock)
        self.lines: list[Line] = []

    def sidecar(self, *, shared: bool = True, **limits) -> quota.Quota:
        self.lines.append(Line(self.store))
        return quota.Quota(
            limits=document.Quota(**limits),
            scope="team/policy",
            store=self.lines[-1] if shared else None,
            clock=self.clock.monotonic,
            wall_clock=self.clock,
        )

    @property
    def counted(self) -> claims.Amounts:
        today = int(self.clock() // periods.DAY_SECONDS)
        return self.store.days["team/policy", today].counted

    def cut(self, how: str = "before") -> None:
        for line in self.lines:
            line.cut = how

    def mend(self) -> None:
        self.cut("")
        self.clock.wall += counter.AWAY_SECONDS


@pytest.fixture
def day():
    return Day()


def run(coroutine):
    return asyncio.run(coroutine)


async def spend(sidecar: quota.Quota, calls: int = 1, *, tokens: int = 1) -> int:
    """How many of so many calls could be made, each billed what was reserved."""
    for made in range(calls):
        try:
            reservation = await draw(sidecar, tokens=tokens)
        except errors.QuotaExhausted:
            return made
        await settled(sidecar, reservation, billed=True, tokens=tokens)
    return calls


def test_day_has_as_many_calls_as_policy_says(day):
    assert run(spend(day.sidecar(daily_requests=40), 100)) == 40


def test_many_sidecars_share_one_day_to_last_call(day):
    async def scenario():
        sidecars = [day.sidecar(daily_requests=100) for _ in range(5)]
        made = 0
        for _ in range(40):
            for sidecar in sidecars:
                made += await spend(sidecar)
        return made

    assert run(scenario()) == 100


def test_quota_of_nothing_allows_nothing(day):
    assert run(spend(day.sidecar(daily_requests=0), 1)) == 0


def test_refusal_says_when_day_ends(day):
    async def scenario():
        with pytest.raises(errors.QuotaExhausted) as refusal:
            await draw(day.sidecar(daily_requests=0), tokens=1)
        return refusal.value

    refusal = run(scenario())
    assert refusal.left.resets_in_seconds == HALF_A_DAY
    assert "2026-03-02T00:00:00Z" in refusal.message
    assert refusal.message.startswith("This policy's 0 calls a day")


def test_reset_is_told_by_clock_of_store(day):
    """The pod's own clock, an hour and a half behind, tells nothing."""

    async def scenario():
        behind = quota.Quota(
            limits=document.Quota(daily_requests=0),
            scope="team/policy",
            store=day.store,
            clock=day.clock.monotonic,
            wall_clock=lambda: day.clock() - 5_400,
        )
        with pytest.raises(errors.QuotaExhausted) as refusal:
            await draw(behind, tokens=1)
        return refusal.value.left.resets_in_seconds

    assert run(scenario()) == HALF_A_DAY


def test_reset_is_never_told_too_early(day):
    """An answer that was long under way: the day ends as long after it as it says, at most."""

    async def scenario():
        sidecar = day.sidecar(daily_requests=0)
        gate = day.lines[0].gate = asyncio.Event()
        asking = asyncio.create_task(draw(sidecar, tokens=1))
        await day.lines[0].waiting.wait()
        count = await day.store.claim(day.lines[0].claims[0])
        day.lines[0].answer = count
        day.clock.wall += 0.8
        gate.set()
        with pytest.raises(errors.QuotaExhausted) as refusal:
            await asking
        return refusal.value.left.resets_in_seconds

    assert run(scenario()) == HALF_A_DAY


def test_left_quota_is_what_this_sidecar_may_still_draw(day):
    async def scenario():
        sidecar, other = (day.sidecar(daily_requests=1000, daily_tokens=5000) for _ in range(2))
        await spend(other, 2, tokens=100)
        await spend(sidecar, 2, tokens=100)
        return sidecar.left(), day.lines[0].asked

    left, asked = run(scenario())
    # The other has drawn 16 calls; of its tokens as many as a sixteenth of what was left.
    assert (left.requests, left.requests_left) == (1000, 1000 - 16 - 2)
    assert (left.tokens, left.tokens_left) == (5000, 5000 - 312 - 200)
    assert not left.used_up
    assert asked == 1


def test_unlimited_quota_tells_no_remainder(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=None)
        await spend(sidecar)
        return sidecar.left()

    left = run(scenario())
    assert (left.requests_left, left.tokens_left, left.used_up) == (None, None, False)


def test_lease_of_dead_sidecar_is_not_left(day):
    async def scenario():
        dead, sidecar = (day.sidecar(daily_requests=40) for _ in range(2))
        await spend(dead, 1)
        await spend(sidecar, 100)
        return await sidecar.state()

    state = run(scenario())
    assert state.used < state.daily_requests
    assert state.used + state.reserved == state.daily_requests
    assert state.left.used_up


def test_used_up_tokens_leave_no_call_either(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=40, daily_tokens=20)
        await spend(sidecar, 2, tokens=10)
        return await sidecar.state()

    state = run(scenario())
    assert (state.left.requests_left, state.left.tokens_left) == (38, 0)
    assert state.left.used_up


def test_granted_calls_are_spent_without_asking_store(day):
    async def scenario():
        await spend(day.sidecar(daily_requests=1000), periods.DAY.grant_calls)

    run(scenario())
    assert day.lines[0].asked == 1


def test_held_lease_is_spent_by_plain_call(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        before = held(sidecar)
        await spend(sidecar)
        granted = [held(sidecar) for _ in range(periods.DAY.grant_calls)]
        return before, granted, await sidecar.state()

    before, (*granted, last), state = run(scenario())
    assert (before, last) == (None, None)
    assert None not in granted
    assert (state.used, day.counted.calls) == (periods.DAY.grant_calls, periods.DAY.grant_calls)


def test_plain_call_without_redis_spends_to_limit(day):
    sidecar = day.sidecar(daily_requests=5, shared=False)
    made = [held(sidecar) for _ in range(9)]
    assert [it is None for it in made] == [False] * 5 + [True] * 4


def test_no_plain_call_spends_what_was_held_yesterday(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar)
        day.clock.wall += HALF_A_DAY
        return held(sidecar)

    assert run(scenario()) is None


def test_calls_near_limit_are_granted_one_by_one(day):
    async def scenario():
        await draw(day.sidecar(daily_requests=10), tokens=1)

    run(scenario())
    assert day.counted.calls == 1


def test_call_that_was_not_billed_may_be_made_again(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1)
        refused = await draw(sidecar, tokens=5)
        await settled(sidecar, refused, billed=False, tokens=0)
        return await spend(sidecar, 2), await sidecar.state()

    made, state = run(scenario())
    assert made == 1
    assert state.used == 1


def test_settling_twice_gives_back_once(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=2)
        reservation = await draw(sidecar, tokens=5)
        for _ in range(3):
            await settled(sidecar, reservation, billed=False, tokens=0)
        return await spend(sidecar, 9)

    assert run(scenario()) == 2


def test_tokens_are_reserved_by_their_bound_and_settled_to_what_was_billed(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=100, daily_tokens=1000)
        reservation = await draw(sidecar, tokens=900)
        with pytest.raises(errors.QuotaExhausted, match="1000 tokens a day"):
            await draw(sidecar, tokens=200)
        await settled(sidecar, reservation, billed=True, tokens=100)
        await draw(sidecar, tokens=900)
        return await sidecar.state()

    assert run(scenario()).tokens_used == 1000


def test_tokens_without_limit_are_counted_anyway(day):
    async def scenario():
        sidecars = [day.sidecar(daily_requests=100) for _ in range(2)]
        for sidecar in sidecars:
            await spend(sidecar, 3, tokens=7)
        await sidecars[0].state()
        return await sidecars[1].state()

    state = run(scenario())
    assert (state.daily_tokens, state.tokens_used) == (None, 42)


def test_state_tells_calls_made_from_calls_held(day):
    async def scenario():
        first, second = (day.sidecar(daily_requests=1000) for _ in range(2))
        await spend(first, 3)
        await spend(second, 2)
        await first.state()
        return await second.state()

    state = run(scenario())
    assert (state.daily_requests, state.used) == (1000, 5)
    assert state.reserved == 2 * periods.DAY.grant_calls - 5
    assert state.reset_at == MIDNIGHT
    assert state.exact


def test_closing_gives_rest_back(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar, 3)
        await sidecar.close()

    run(scenario())
    assert day.counted.calls == 3


def test_lease_being_given_back_is_not_spent_meanwhile(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar, 3)
        gate = day.lines[0].gate = asyncio.Event()
        closing = asyncio.create_task(sidecar.close())
        await day.lines[0].waiting.wait()
        requests = [asyncio.create_task(draw(sidecar, tokens=1)) for _ in range(5)]
        await asyncio.sleep(0)
        made_meanwhile = sum(request.done() for request in requests)
        gate.set()
        await asyncio.gather(closing, *requests)
        return made_meanwhile

    assert run(scenario()) == 0


def test_call_under_way_is_settled_after_closing(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        billed, refused = [await draw(sidecar, tokens=1) for _ in range(2)]
        await sidecar.close()
        before = day.counted.calls
        await settled(sidecar, billed, billed=True, tokens=1)
        await settled(sidecar, refused, billed=False, tokens=0)
        return before

    assert run(scenario()) == 2
    assert day.counted.calls == 1


def test_plain_settling_after_close_gives_back_remainder(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        first, second = [await draw(sidecar, tokens=1) for _ in range(2)]
        sidecar.settle(first, billed=True, tokens=1)
        assert not sidecar.day.shares[False].giving_back
        await sidecar.close()
        sidecar.settle(second, billed=False, tokens=0)
        before = day.counted.calls
        await asyncio.gather(*sidecar.day.shares[False].giving_back)
        return before, day.counted.calls

    assert run(scenario()) == (2, 1)


def test_request_under_way_may_make_its_next_call_after_closing(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await sidecar.close()
        return await spend(sidecar, 2)

    assert run(scenario()) == 2
    assert day.counted.calls == 2


def test_new_day_starts_at_nothing(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=5)
        first = await spend(sidecar, 9)
        day.clock.wall += HALF_A_DAY
        return first, await spend(sidecar, 9), await sidecar.state()

    first, second, state = run(scenario())
    assert (first, second) == (5, 5)
    assert state.reset_at == datetime(2026, 3, 3, tzinfo=UTC)


def test_no_grant_outlives_midnight(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar)
        day.clock.wall += HALF_A_DAY
        await spend(sidecar)

    run(scenario())
    assert day.lines[0].asked == 2
    assert day.counted.calls == periods.DAY.grant_calls


def test_return_of_yesterdays_call_is_not_todays(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=5)
        yesterdays = await draw(sidecar, tokens=1)
        day.clock.wall += HALF_A_DAY
        made = await spend(sidecar, 5)
        await settled(sidecar, yesterdays, billed=False, tokens=0)
        return made + await spend(sidecar, 5)

    assert run(scenario()) == 5


def test_store_whose_clock_goes_back_day_is_not_believed(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=5)
        await spend(sidecar, 5)
        day.clock.wall += HALF_A_DAY
        await spend(sidecar, 5)
        day.store.clock = lambda: NOON
        day.clock.wall += 2 * counter.AWAY_SECONDS
        with pytest.raises(errors.Unavailable):
            await draw(sidecar, tokens=1)

    run(scenario())


def test_store_that_is_away_leaves_what_is_granted(day, caplog):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar)
        day.cut()
        made = await spend(sidecar, periods.DAY.grant_calls - 1)
        with pytest.raises(errors.Unavailable) as refusal:
            await draw(sidecar, tokens=1)
        return made, refusal.value, await sidecar.state()

    made, refusal, state = run(scenario())
    assert made == periods.DAY.grant_calls - 1
    assert (refusal.status, refusal.code) == (503, "quota_store_unavailable")
    assert (state.exact, state.exact_reason) == (False, "StoreAway")
    assert state.used == periods.DAY.grant_calls
    assert "the store is away" in caplog.text


def test_store_that_is_back_is_used_again(day, caplog):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20)
        day.cut()
        with pytest.raises(errors.Unavailable):
            await draw(sidecar, tokens=1)
        day.mend()
        return await spend(sidecar, 30), await sidecar.state()

    caplog.set_level(logging.INFO)
    made, state = run(scenario())
    assert made == 20
    assert state.exact
    assert "answers again" in caplog.text


def test_pod_whose_clock_runs_ahead_obeys_store_when_it_comes_back(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20)
        day.store.clock = lambda: day.clock() - HALF_A_DAY
        day.clock.wall += HALF_A_DAY
        day.cut()
        await sidecar.state()
        day.mend()
        return await spend(sidecar, 30)

    assert run(scenario()) == 20


def test_away_store_is_not_asked_by_every_request(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20)
        day.cut()
        for _ in range(10):
            with pytest.raises(errors.Unavailable):
                await draw(sidecar, tokens=1)

    run(scenario())
    assert day.lines[0].asked == 1


def test_grant_whose_answer_was_lost_is_not_lost(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20)
        day.cut("after")
        for _ in range(3):
            with pytest.raises(errors.Unavailable):
                await draw(sidecar, tokens=1)
            day.clock.wall += counter.AWAY_SECONDS
        day.mend()
        return await spend(sidecar, 30)

    assert run(scenario()) == 20


def test_allowed_to_go_on_alone_each_pod_counts_alone_and_reports_later(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20, deny_on_store_loss=False)
        day.cut()
        alone = await spend(sidecar, 12)
        state = await sidecar.state()
        day.mend()
        return alone, state, await spend(sidecar, 30)

    alone, state, then = run(scenario())
    assert (alone, state.used, state.exact_reason) == (12, 12, "StoreAway")
    assert then == 8
    assert day.counted.calls == 20


def test_pod_alone_keeps_to_limit(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20, deny_on_store_loss=False)
        day.cut()
        first = await spend(sidecar, 30)
        day.clock.wall += HALF_A_DAY
        return first, await spend(sidecar, 30)

    assert run(scenario()) == (20, 20)


def test_pod_alone_counts_what_it_knows_others_have_spent(day):
    async def scenario():
        other, sidecar = (day.sidecar(daily_requests=20, deny_on_store_loss=False) for _ in "ab")
        await spend(other, 12)
        await sidecar.state()
        day.cut()
        return await spend(sidecar, 30)

    assert run(scenario()) == 8


def obey(sidecar: quota.Quota, store: counter.Store | None, **limits) -> None:
    sidecar.obey(document.Quota(**limits), store=store)


@pytest.mark.parametrize("shared", [True, False])
def test_other_limits_refill_nothing(day, shared):
    async def scenario():
        sidecar = day.sidecar(shared=shared, daily_requests=20)
        before = await spend(sidecar, 30)
        obey(sidecar, day.lines[0] if shared else None, daily_requests=25)
        return before, await spend(sidecar, 30)

    assert run(scenario()) == (20, 5)


def test_grant_of_higher_limit_is_not_spent_within_lower(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar, 3)
        obey(sidecar, day.lines[0], daily_requests=5)
        made = await spend(sidecar, 30)
        return made, day.counted.calls

    assert run(scenario()) == (2, 5)


def test_limit_below_what_was_spent_leaves_no_call_and_no_token(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=20, daily_tokens=20)
        await spend(sidecar, 10)
        obey(sidecar, day.lines[0], daily_requests=5, daily_tokens=5)
        return sidecar.left()

    left = run(scenario())
    assert (left.requests_left, left.tokens_left) == (0, 0)


def test_grant_under_way_of_higher_limit_is_not_spent_within_lower(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        gate = day.lines[0].gate = asyncio.Event()
        first = asyncio.create_task(spend(sidecar, 1))
        await day.lines[0].waiting.wait()
        obey(sidecar, day.lines[0], daily_requests=5)
        gate.set()
        return await first + await spend(sidecar, 30), day.counted.calls

    assert run(scenario()) == (5, 5)


def test_refusal_within_lower_limit_does_not_outlive_it(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=0)
        gate = day.lines[0].gate = asyncio.Event()
        first = asyncio.create_task(spend(sidecar, 1))
        await day.lines[0].waiting.wait()
        obey(sidecar, day.lines[0], daily_requests=5)
        gate.set()
        return await first + await spend(sidecar, 30)

    assert run(scenario()) == 5


def test_calls_spent_alone_count_in_store_that_comes(day):
    async def scenario():
        sidecar, other = (
            day.sidecar(shared=False, daily_requests=20),
            day.sidecar(daily_requests=20),
        )
        alone = await spend(sidecar, 12)
        obey(sidecar, day.lines[0], daily_requests=20)
        return alone + await spend(sidecar, 1) + await spend(other, 30) + await spend(sidecar, 30)

    assert run(scenario()) == 20


def test_store_in_another_place_gets_back_what_was_counted_in_first(day):
    second = FakeStore(day.clock)

    async def scenario():
        sidecar, dead = (day.sidecar(daily_requests=20) for _ in range(2))
        made = await spend(dead, 9) + await spend(sidecar, 2)
        obey(sidecar, second, daily_requests=20)
        return made + await spend(sidecar, 30), await sidecar.state()

    made, state = run(scenario())
    assert made == 20
    assert state.exact_reason == "StoreMayForget"


def test_answer_of_store_before_is_not_taken_for_one_of_next(day):
    second = FakeStore(day.clock)

    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        gate = day.lines[0].gate = asyncio.Event()
        first = asyncio.create_task(spend(sidecar, 1))
        await day.lines[0].waiting.wait()
        obey(sidecar, second, daily_requests=1000)
        gate.set()
        await first
        return second.days["team/policy", int(NOON // periods.DAY_SECONDS)].counted.calls

    assert run(scenario()) == periods.DAY.grant_calls


def test_limit_without_redis_is_per_pod(day):
    async def scenario():
        sidecars = [day.sidecar(daily_requests=5, shared=False) for _ in range(2)]
        made = [await spend(sidecar, 9) for sidecar in sidecars]
        return made, await sidecars[0].state()

    made, state = run(scenario())
    assert made == [5, 5]
    assert (state.used, state.reserved, state.exact_reason) == (5, 0, "NoSharedStore")
    assert state.reset_at == MIDNIGHT


def test_state_is_known_before_first_call(day):
    state = run(day.sidecar(daily_requests=5, shared=False).state())
    assert (state.used, state.reset_at) == (0, MIDNIGHT)


def test_pod_without_redis_shows_new_day_at_midnight(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=5, shared=False)
        await spend(sidecar, 5)
        day.clock.wall += HALF_A_DAY
        return await sidecar.state()

    state = run(scenario())
    assert (state.used, state.reset_at) == (0, datetime(2026, 3, 3, tzinfo=UTC))


def test_unlimited_policy_goes_on_without_its_store(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=None)
        await spend(sidecar, 3)
        day.cut()
        await spend(sidecar, 100)
        day.mend()
        return await sidecar.state()

    state = run(scenario())
    assert (state.daily_requests, state.used) == (None, 103)


def test_store_that_may_forget_is_told(day):
    day.store.durable = "appendfsync is everysec, not always"
    state = run(day.sidecar(daily_requests=5).state())
    assert (state.exact, state.exact_reason) == (False, "StoreMayForget")
    assert "everysec" in state.exact_text


def test_store_that_forgot_gets_back_what_sidecar_knows(day):
    async def scenario():
        sidecar, dead = (day.sidecar(daily_requests=20) for _ in range(2))
        await spend(dead, 10)
        await spend(sidecar, 5)
        day.store.forget()
        return await spend(sidecar, 20), await sidecar.state()

    made, state = run(scenario())
    assert made == 5
    assert state.exact_reason == "StoreMayForget"


def test_store_that_forgot_hears_of_it_from_every_sidecar(day):
    async def scenario():
        sidecars = [day.sidecar(daily_requests=60) for _ in range(3)]
        before = [await spend(sidecar, 15) for sidecar in sidecars]
        day.store.forget()
        await sidecars[0].state()
        known = day.counted.calls
        for sidecar in sidecars:
            await sidecar.state()
        return known, sum(before), sum([await spend(sidecar, 60) for sidecar in sidecars])

    known, before, after = run(scenario())
    assert known < before
    assert before + after <= 60


def test_idle_sidecar_gives_its_rest_back(day, monkeypatch):
    monkeypatch.setattr(share, "IDLE_SECONDS", 0.0)

    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar)
        for _ in range(10):
            await asyncio.sleep(0)
        return day.counted.calls, await spend(sidecar, 3)

    assert run(scenario()) == (1, 3)


def test_many_requests_at_once_ask_one_after_other(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=50)
        results = await asyncio.gather(
            *(draw(sidecar, tokens=1) for _ in range(80)), return_exceptions=True
        )
        return [isinstance(result, leases.Reservation) for result in results].count(True)

    assert run(scenario()) == 50


def test_waiters_cost_one_claim_when_day_is_used_up(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=0)
        gate = day.lines[0].gate = asyncio.Event()
        waiting = [asyncio.create_task(spend(sidecar)) for _ in range(50)]
        await day.lines[0].waiting.wait()
        gate.set()
        return sum(await asyncio.gather(*waiting)), day.lines[0].asked, await spend(sidecar)

    assert run(scenario()) == (0, 1, 0)
    assert day.lines[0].asked == 2


def test_smaller_need_is_not_refused_with_larger_one(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=10, daily_tokens=100)
        gate = day.lines[0].gate = asyncio.Event()
        large = asyncio.create_task(spend(sidecar, tokens=101))
        small = asyncio.create_task(spend(sidecar, tokens=100))
        await day.lines[0].waiting.wait()
        gate.set()
        return await large, await small

    assert run(scenario()) == (0, 1)


def test_waiter_is_not_refused_within_former_limit(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=0)
        line = day.lines[0]
        # Between what the store says and the hearing of it.
        line.then = lambda: obey(sidecar, line, daily_requests=5)
        return await asyncio.gather(*(spend(sidecar) for _ in range(2)))

    assert run(scenario()) == [1, 1]


# --- many who wait for one claim


class Crowd:
    """Requests of one sidecar, begun while its first claim is under way."""

    def __init__(self, day: Day, requests: int, **limits) -> None:
        self.quota = day.sidecar(**limits)
        self.line = day.lines[-1]
        self.gate = self.line.gate = asyncio.Event()
        self.served: list[int] = []
        self.waiting = [asyncio.create_task(self.request(number)) for number in range(requests)]

    async def request(self, number: int) -> leases.Reservation:
        reservation = await draw(self.quota, tokens=1)
        self.served.append(number)
        return reservation

    async def is_waiting(self) -> None:
        await self.line.waiting.wait()
        await turns()

    async def outcomes(self) -> list[object]:
        self.gate.set()
        return await asyncio.gather(*self.waiting, return_exceptions=True)


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_one_claim_serves_all_who_wait_for_it_and_in_their_order(day):
    async def scenario():
        crowd = Crowd(day, 3 * periods.DAY.grant_calls, daily_requests=1000)
        await crowd.is_waiting()
        await crowd.outcomes()
        return crowd

    crowd = run(scenario())
    assert crowd.line.asked == 3
    assert crowd.served == sorted(crowd.served)


def test_claim_serves_its_waiters_in_one_turn(day):
    async def scenario():
        crowd = Crowd(day, periods.DAY.grant_calls, daily_requests=1000)
        await crowd.is_waiting()
        in_turns = []
        crowd.gate.set()
        while len(crowd.served) < periods.DAY.grant_calls:
            in_turns.append(len(crowd.served))
            await asyncio.sleep(0)
        return in_turns

    assert set(run(scenario())) == {0}


def test_late_caller_takes_nothing_from_earlier_waiters(day):
    late: list[object] = []

    async def scenario():
        crowd = Crowd(day, periods.DAY.grant_calls + 1, daily_requests=1000)
        loop = asyncio.get_running_loop()
        crowd.line.then = lambda: loop.call_soon(late.append, held(crowd.quota))
        await crowd.is_waiting()
        await crowd.outcomes()
        return crowd.served

    assert run(scenario()) == list(range(periods.DAY.grant_calls + 1))
    assert late[0] is None


def test_waiter_that_needs_more_than_granted_is_next(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000, daily_tokens=10_000)
        line = day.lines[0]
        gate = line.gate = asyncio.Event()
        told: list[claims.Amounts] = []
        for tokens in (1, 4000, 1):
            sidecar.draw(tokens=tokens, done=lambda it: told.append(it.amounts))
        await line.waiting.wait()
        gate.set()
        await turns(20)
        return [it.tokens for it in told]

    assert run(scenario()) == [1, 4000, 1]


def test_held_lease_serves_those_it_suffices_for_while_store_is_away(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000, daily_tokens=10_000)
        made = await draw(sidecar, tokens=500)
        gate = day.lines[0].gate = asyncio.Event()
        large, small = (asyncio.create_task(draw(sidecar, tokens=tokens)) for tokens in (4000, 400))
        await day.lines[0].waiting.wait()
        sidecar.settle(made, billed=False, tokens=0)
        day.cut()
        gate.set()
        return await asyncio.gather(large, small, return_exceptions=True)

    large, small = run(scenario())
    assert isinstance(large, errors.Unavailable)
    assert isinstance(small, leases.Reservation)


def test_cancelled_waiter_ends_no_claim_of_others(day):
    async def scenario():
        crowd = Crowd(day, 5, daily_requests=1000)
        await crowd.is_waiting()
        crowd.waiting[0].cancel()
        await crowd.outcomes()
        return crowd, await crowd.quota.state()

    crowd, state = run(scenario())
    assert crowd.served == [1, 2, 3, 4]
    assert len(crowd.line.claims) == 2, "one of them to tell the state"
    assert state.used == 4


def test_cancelled_waiter_is_not_claimed_for(day):
    async def scenario():
        crowd = Crowd(day, periods.DAY.grant_calls + 1, daily_requests=1000)
        await crowd.is_waiting()
        crowd.waiting[-1].cancel()
        await crowd.outcomes()
        return crowd

    crowd = run(scenario())
    assert (len(crowd.served), crowd.line.asked) == (periods.DAY.grant_calls, 1)


def test_returned_lease_goes_to_waiter_before_its_claim(day):
    async def scenario():
        sidecar, line = day.sidecar(daily_requests=1000), day.lines[0]
        held = [await draw(sidecar, tokens=1) for _ in range(periods.DAY.grant_calls)]
        gate = line.gate = asyncio.Event()
        looking = asyncio.create_task(sidecar.state())
        await line.waiting.wait()
        asking = asyncio.create_task(draw(sidecar, tokens=1))
        await turns()
        sidecar.settle(held[0], billed=False, tokens=0)
        gate.set()
        await asyncio.gather(looking, asking)
        return line.asked

    assert run(scenario()) == 2, "the grant, and the look"


@pytest.mark.parametrize("turns_later", [0, 1, 2])
def test_waiter_cancelled_while_served_uses_nothing(day, turns_later):
    async def scenario():
        crowd = Crowd(day, 5, daily_requests=1000)
        await crowd.is_waiting()
        loop = asyncio.get_running_loop()
        given = []

        def hang_up(turns: int) -> None:
            if turns:
                loop.call_soon(hang_up, turns - 1)
                return
            given.append(crowd.quota.day.shares[False].ledger.used.calls)
            for request in crowd.waiting:
                request.cancel()

        crowd.line.then = lambda: loop.call_soon(hang_up, turns_later)
        await crowd.outcomes()
        crowd.line.then = nothing
        return given, len(crowd.served), await crowd.quota.state()

    given, served, state = run(scenario())
    # Whoever had it in hand before may have made his call.
    assert (given, state.used) == ([5], served)
    assert served == (5 if turns_later == 2 else 0)


def test_lease_given_after_close_to_cancelled_waiter_goes_back(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await sidecar.close()
        line = day.lines[0]
        asking = asyncio.create_task(draw(sidecar, tokens=1))
        loop = asyncio.get_running_loop()
        line.then = lambda: loop.call_soon(asking.cancel)
        await asyncio.wait([asking])
        line.then = nothing
        await turns(9)
        return asking.cancelled()

    assert run(scenario())
    assert day.counted.calls == 0


def test_callback_of_draw_is_called_once(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=17)
        told: list[object] = []
        for _ in range(20):
            sidecar.draw(tokens=1, done=told.append)
        before = len(told)
        await turns(40)
        sidecar.draw(tokens=1, done=told.append)
        await turns(9)
        return before, told

    before, told = run(scenario())
    assert before == 0
    assert [type(it) for it in told] == [leases.Reservation] * 17 + [errors.QuotaExhausted] * 4


def test_draw_of_held_lease_is_answered_at_once(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await spend(sidecar)
        told: list[object] = []
        sidecar.draw(tokens=1, done=told.append)
        return told

    assert [type(it) for it in run(scenario())] == [leases.Reservation]


def test_failing_callback_takes_lease_from_no_other(day, caplog):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        told: list[object] = []

        def fail(outcome):
            raise RuntimeError("of no use to me")

        sidecar.draw(tokens=1, done=fail)
        sidecar.draw(tokens=1, done=told.append)
        await turns(9)
        return told

    assert [type(it) for it in run(scenario())] == [leases.Reservation]
    assert "of no use to me" in caplog.text


def test_store_that_is_away_is_asked_once_by_all_who_wait(day):
    async def scenario():
        crowd = Crowd(day, 50, daily_requests=1000)
        await crowd.is_waiting()
        day.cut()
        return crowd, {type(it) for it in await crowd.outcomes()}

    crowd, outcomes = run(scenario())
    assert outcomes == {errors.Unavailable}
    assert crowd.line.asked == 1


def test_allowed_to_go_on_alone_all_who_wait_do(day):
    async def scenario():
        crowd = Crowd(day, 50, daily_requests=40, deny_on_store_loss=False)
        await crowd.is_waiting()
        day.cut()
        await crowd.outcomes()
        return crowd, held(crowd.quota)

    crowd, more = run(scenario())
    assert crowd.served == list(range(40))
    assert more is None


def test_pod_may_go_on_alone_by_plain_calls_while_store_is_away(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=40, deny_on_store_loss=False)
        day.cut()
        await draw(sidecar, tokens=1)
        return [held(sidecar) is None for _ in range(40)]

    assert run(scenario()) == [False] * 39 + [True]


def test_fault_of_store_is_told_to_all_who_wait_and_is_not_end(day):
    def fault():
        raise ZeroDivisionError

    async def scenario():
        crowd = Crowd(day, 3, daily_requests=1000)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await crowd.is_waiting()
        crowd.line.then = fault
        outcomes = {type(it) for it in await crowd.outcomes()}
        crowd.line.then = nothing
        return outcomes, await spend(crowd.quota)

    assert run(scenario()) == ({ZeroDivisionError}, 1)
