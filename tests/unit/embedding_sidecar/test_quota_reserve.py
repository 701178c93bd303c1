"""The reserve for applications: the part of the day that background work may use, and no more."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota import claims, periods, quota, share
from tests.fakes.quota_store import FakeStore
from tests.parts import virtual_time
from tests.parts.callbacks import draw
from tests.parts.settling import give_back

NOON = 20_000 * periods.DAY_SECONDS + 43_200.0
SCOPE = "team/policy"


class Day:
    """A store, its clock, and the sidecars of one policy."""

    def __init__(self) -> None:
        self.now = NOON
        self.store = FakeStore(lambda: self.now)

    def sidecar(self, *, shared=True, **limits) -> quota.Quota:
        return quota.Quota(
            limits=document.Quota(**limits),
            scope=SCOPE,
            store=self.store if shared else None,
            clock=lambda: self.now - NOON,
            wall_clock=lambda: self.now,
        )

    @property
    def counted(self) -> claims.Amounts:
        day = self.store.days.get((SCOPE, int(NOON // periods.DAY_SECONDS)))
        return day.counted if day else claims.NOTHING


async def reserved(sidecar, **more):
    """A call that may be made, or why it may not."""
    try:
        return await draw(sidecar, **more)
    except errors.QuotaExhausted as refused:
        return refused


async def call(sidecar, *, background=False, tokens=1):
    """Make a call; why not, where it could not be made."""
    held = await reserved(sidecar, tokens=tokens, background=background)
    if isinstance(held, errors.QuotaExhausted):
        return held
    sidecar.settle(held, billed=True, tokens=tokens)
    return None


async def calls(sidecar, most=1000, *, background=False, tokens=1):
    """How many calls could be made, and why no more."""
    for made in range(most):
        refused = await call(sidecar, background=background, tokens=tokens)
        if refused:
            return made, refused
    return most, None


def run(work):
    return asyncio.run(work)


@pytest.fixture
def day():
    return Day()


@pytest.mark.parametrize("shared", [True, False], ids=["store", "memory"])
def test_background_work_leaves_reserve_and_applications_use_it_up(day, shared):
    async def scenario():
        sidecar = day.sidecar(shared=shared, daily_requests=100, reserved_requests=20)
        background, kept = await calls(sidecar, background=True)
        rest, used_up = await calls(sidecar)
        after = await call(sidecar, background=True)
        return background, rest, kept, used_up, after

    background, rest, kept, used_up, after = run(scenario())
    assert (background, rest) == (80, 20)
    assert isinstance(kept, errors.QuotaReserved)
    assert (kept.status, kept.kind) == (429, "insufficient_quota")
    assert kept.code == "quota_reserved_for_applications"
    assert "20 are reserved for applications" in kept.message
    assert kept.left.requests_left == 0
    assert kept.left.resets_in_seconds == pytest.approx(43_200)
    # Where nothing is left, the reserve is not the reason.
    assert (used_up.code, after.code) == ("insufficient_quota", "insufficient_quota")


@pytest.mark.parametrize("shared", [True, False], ids=["store", "memory"])
def test_applications_first_take_from_share_of_background_work(day, shared):
    async def scenario():
        sidecar = day.sidecar(shared=shared, daily_requests=100, reserved_requests=20)
        await calls(sidecar, 70)
        await give_back(sidecar)
        background, _ = await calls(sidecar, background=True)
        return background, await calls(sidecar)

    background, (rest, _) = run(scenario())
    assert (background, rest) == (10, 20)


@pytest.mark.parametrize("shared", [True, False], ids=["store", "memory"])
def test_reserve_of_tokens_is_left_too(day, shared):
    async def scenario():
        sidecar = day.sidecar(
            shared=shared, daily_requests=None, daily_tokens=1000, reserved_tokens=300
        )
        background, kept = await calls(sidecar, background=True, tokens=100)
        return background, kept, await calls(sidecar, tokens=100)

    background, kept, (rest, used_up) = run(scenario())
    assert (background, rest) == (7, 3)
    assert "1000 tokens a day, of which 300 are reserved" in kept.message
    assert used_up.code == "insufficient_quota"


def test_reserve_of_calls_says_nothing_of_tokens(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=100, daily_tokens=50, reserved_requests=20)
        return await calls(sidecar, background=True, tokens=10)

    made, refused = run(scenario())
    assert (made, refused.code) == (5, "insufficient_quota")


def test_unlimited_day_reserves_nothing(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=None, reserved_requests=20)
        return await calls(sidecar, 200, background=True)

    assert run(scenario()) == (200, None)


def test_one_sidecar_spends_for_no_class_what_was_granted_to_other(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await call(sidecar)
        await call(sidecar, background=True)
        granted = day.counted.calls
        await calls(sidecar, periods.DAY.grant_calls - 1, background=True)
        same = day.counted.calls
        await call(sidecar, background=True)
        return granted, same, day.counted.calls

    assert run(scenario()) == (32, 32, 48)


def test_killed_sidecar_loses_at_most_grant_of_each_class(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000, reserved_requests=200)
        await calls(sidecar, 40)
        await calls(sidecar, 40, background=True)
        return (await sidecar.state()).used

    assert run(scenario()) == 80
    assert day.counted.calls - 80 <= 2 * periods.DAY.grant_calls


def test_whole_day_is_told_whichever_class_spends(day):
    async def scenario():
        sidecar, other = (day.sidecar(daily_requests=100, reserved_requests=20) for _ in range(2))
        await calls(sidecar, 5, background=True)
        known = sidecar.day.books.policy_used().calls, sidecar.day.books.policy_reserved().calls
        state = await sidecar.state()
        return known, state, await other.state()

    known, state, others = run(scenario())
    assert known == (5, day.counted.calls - 5)
    assert (state.used, state.reserved) == (others.used, others.reserved) == known
    assert state.left.requests_left == 100 - day.counted.calls
    assert state.left_to_background.requests_left == 75
    assert others.left_to_background.requests_left == 80 - day.counted.calls


def test_new_day_that_one_class_has_heard_of_is_new_for_other(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=100, reserved_requests=20)
        await calls(sidecar, background=True)
        day.now += periods.DAY_SECONDS
        await call(sidecar)
        return (
            sidecar.left(background=True),
            sidecar.day.books.policy_used().calls,
            await calls(sidecar, background=True),
        )

    left, made, (background, _) = run(scenario())
    counted_for_applications = 6
    assert left.requests_left == background == 80 - counted_for_applications
    assert left.resets_in_seconds == pytest.approx(43_200)
    assert made == 1


def test_background_does_not_wait_for_past_day(day):
    async def scenario():
        sidecar = day.sidecar(shared=False, daily_requests=10, reserved_requests=2)
        await calls(sidecar, background=True)
        before = sidecar.left(background=True).used_up
        day.now += periods.DAY_SECONDS
        return before, sidecar.left(background=True)

    before, after = run(scenario())
    assert before
    assert (after.requests_left, after.requests) == (8, 8)


def test_sidecar_without_background_work_has_one_lease(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=100, reserved_requests=20)
        await call(sidecar)
        # It is told what is left to a class that nobody draws for.
        left = sidecar.left(background=True).requests_left
        await sidecar.state()
        await sidecar.close()
        return left

    assert run(scenario()) == 80 - 6
    (leases_of_day,) = [it.leases for it in day.store.days.values()]
    assert len(leases_of_day) == 1


def test_idle_background_work_gives_its_rest_back_while_applications_go_on(day):
    loop = virtual_time.Loop()
    sidecar = quota.Quota(
        limits=document.Quota(daily_requests=1000, reserved_requests=200),
        scope=SCOPE,
        store=day.store,
        clock=loop.time,
        wall_clock=lambda: NOON + loop.time(),
    )

    async def scenario():
        await call(sidecar, background=True)
        for _ in range(int(share.IDLE_SECONDS) + 2):
            await call(sidecar)
            await asyncio.sleep(1)
        held = sorted(it.held.calls for it in day.store.days[SCOPE, 20_000].leases.values())
        await sidecar.close()
        return held

    assert loop.run_until_complete(scenario()) == [1, periods.DAY.grant_calls]


def test_lease_held_within_former_reserve_is_not_spent(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=100)
        await call(sidecar, background=True)
        sidecar.obey(document.Quota(daily_requests=100, reserved_requests=99), store=day.store)
        return await call(sidecar, background=True)

    assert run(scenario()).code == "quota_reserved_for_applications"


def test_background_work_of_closed_quota_holds_nothing_ahead(day):
    async def scenario():
        sidecar = day.sidecar(daily_requests=1000)
        await sidecar.close()
        held = await draw(sidecar, tokens=1, background=True)
        counted = day.counted.calls
        sidecar.settle(held, billed=False, tokens=0)
        for _ in range(9):
            await asyncio.sleep(0)
        return counted

    assert run(scenario()) == 1
    assert day.counted.calls == 0


def test_store_that_is_away_is_away_for_both_classes(day):
    class Away(FakeStore):
        is_away = False

        async def claim(self, claim):
            if self.is_away:
                raise errors.StoreAway("cut")
            return await super().claim(claim)

    async def scenario():
        store = day.store = Away(lambda: day.now)
        sidecar = day.sidecar(daily_requests=100, reserved_requests=20, deny_on_store_loss=False)
        await call(sidecar, background=True)
        store.is_away = True
        applications, _ = await calls(sidecar, 30)
        background, _ = await calls(sidecar, background=True)
        rest, _ = await calls(sidecar)
        return applications, background, rest

    # One call was made before, with a grant that only background work may spend.
    assert run(scenario()) == (30, 49, 20)


@settings(max_examples=150, deadline=None)
@given(
    calls_of_day=st.tuples(st.integers(0, 120), st.integers(0, 130)),
    tokens_of_day=st.tuples(st.none() | st.integers(0, 400), st.integers(0, 400)),
    shared=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["application", "application", "background", "background", "idle"]),
            st.integers(1, 20),
            st.booleans(),
        ),
        max_size=80,
    ),
)
def test_any_course_of_both_classes(calls_of_day, tokens_of_day, shared, steps):
    """Exactly what holds, whatever comes in which order at which sidecar.

    What is given to background work leaves the reserve. Applications are refused only where what is
    neither spent nor granted to any lease is less than they need, and background work only where
    that is less than it needs beyond the reserve.
    """
    (limit, reserve), (tokens, kept_tokens) = calls_of_day, tokens_of_day
    day = Day()
    limits = claims.Limits(limit, tokens)
    ceiling = limits.without(claims.Amounts(reserve, kept_tokens))
    spent = claims.NOTHING

    async def scenario():
        nonlocal spent
        made = [
            day.sidecar(
                shared=shared,
                daily_requests=limit,
                daily_tokens=tokens,
                reserved_requests=reserve,
                reserved_tokens=kept_tokens,
            )
            for _ in range(3 if shared else 1)
        ]
        for at, what, bound, billed in steps:
            sidecar = made[at % len(made)]
            if what == "idle":
                await give_back(sidecar)
                continue
            background = what == "background"
            before = day.counted if shared else spent
            need = claims.Amounts(1, bound)
            allowed = ceiling if background else limits
            held = await reserved(sidecar, tokens=bound, background=background)
            if isinstance(held, errors.QuotaExhausted):
                total = day.counted if shared else spent
                ours = sidecar.day.shares[background].ledger.rest
                with_it = total + (need - ours).at_least(claims.NOTHING)
                assert allowed.short(with_it)
                is_reserved = not limits.short(with_it)
                assert isinstance(held, errors.QuotaReserved) == is_reserved
                continue
            spent += need
            after = day.counted if shared else spent
            grown = after - before
            assert not limits.short(
                claims.Amounts(spent.calls, 0 if tokens is None else spent.tokens)
            )
            if background and grown.calls > 0:
                assert not claims.Limits(ceiling.calls, None).short(after)
            if background and grown.tokens > 0:
                assert not claims.Limits(None, ceiling.tokens).short(after)
            cost = need if billed else claims.NOTHING
            sidecar.settle(held, billed=billed, tokens=bound)
            spent += cost - need
        for sidecar in made:
            await sidecar.close()
        if shared:
            assert day.counted.calls == spent.calls

    run(scenario())
