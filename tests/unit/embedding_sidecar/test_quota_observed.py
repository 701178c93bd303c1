"""Observe: everything is counted as if the limits held, and nothing is refused."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.api import response_headers
from embedding_sidecar.quota import periods
from tests.parts.callbacks import draw
from tests.parts.counted import PRICE, Counted, calls, made
from tests.parts.settling import give_back

ALL: dict[str, Any] = {
    "daily_requests": 20,
    "daily_tokens": 2_000,
    "daily_cost": 40_000,
    "monthly_requests": 40,
    "monthly_tokens": 4_000,
    "monthly_cost": 80_000,
}


def run(work):
    return asyncio.run(work)


@pytest.fixture
def policy():
    return Counted()


def test_observed_limits_refuse_nothing_and_count_all(policy):
    async def scenario():
        sidecar = policy.sidecar(observes=True, **ALL)
        count, refused = await calls(sidecar, 100)
        background, _ = await calls(sidecar, 20, background=True)
        await give_back(sidecar)
        left = sidecar.left()
        return count, refused, background, left.used_up, response_headers.ratelimit_lines(left)

    assert run(scenario()) == (100, None, 20, False, "")
    for period in (periods.DAY, periods.MONTH):
        assert policy.counted(period) == policy.spent(period) == (120, 1200, 24_000)


def test_draw_beyond_limit_is_told_and_none_before(policy):
    async def scenario():
        sidecar = policy.sidecar(observes=True, daily_requests=20, monthly_requests=22)
        return [(await made(sidecar)).beyond for _ in range(24)]

    beyond = run(scenario())
    assert beyond[:20] == [()] * 20
    assert beyond[20:] == [
        ("day.requests",),
        ("day.requests",),
        ("day.requests", "month.requests"),
        ("day.requests", "month.requests"),
    ]
    assert policy.beyond == [("day", "requests")] * 3 + [
        ("month", "requests"),
        ("day", "requests"),
        ("month", "requests"),
    ]


def test_store_that_is_away_refuses_nothing(policy):
    async def scenario():
        sidecar = policy.sidecar(observes=True, **ALL)
        policy.store.claim = None
        sidecar.day.counter._failed(errors.StoreAway())
        sidecar.month.counter._failed(errors.StoreAway())
        return await calls(sidecar, 50)

    assert run(scenario()) == (50, None)


def test_limit_that_is_enforced_after_all_is_used_up(policy):
    async def scenario():
        sidecars = [policy.sidecar(observes=True, **ALL) for _ in range(2)]
        for sidecar in sidecars:
            await calls(sidecar, 15)
        limits = document.Quota(**ALL)
        for sidecar in sidecars:
            sidecar.obey(limits, store=policy.store)
        return [(await calls(sidecar))[0] for sidecar in sidecars]

    assert run(scenario()) == [0, 0]
    assert policy.spent().calls == 30


@settings(max_examples=60, deadline=None)
@given(
    work=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(1, 100),
            st.integers(0, 100),
            st.booleans(),
            st.sampled_from([0.0, 0.0, 0.0, 20.0, 7_200.0]),
        ),
        max_size=60,
    ),
    limited=st.sets(st.sampled_from(sorted(ALL)), min_size=1),
)
def test_day_observed_and_then_enforced_counts_as_day_enforced(work, limited):
    """To the unit, of two sidecars; the limits are ones that the day does not reach."""

    def counted(observes):
        policy = Counted(now=periods.DAY.begin(20_000).timestamp())
        limits: dict[str, Any] = dict.fromkeys(limited, 10**9)

        async def scenario():
            sidecars = [policy.sidecar(observes=observes, **limits) for _ in range(2)]
            for which, bound, usage, billed, seconds in work:
                policy.now += seconds
                held = await draw(sidecars[which], tokens=bound, price=PRICE)
                sidecars[which].settle(held, billed=billed, tokens=usage, price=PRICE)
            if observes:
                enforced = document.Quota(**{"daily_requests": None} | limits)
                for sidecar in sidecars:
                    sidecar.obey(enforced, store=policy.store)
            for sidecar in sidecars:
                await give_back(sidecar)
            return [(await sidecar.state()).limits for sidecar in sidecars]

        return run(scenario()), policy.counted(), policy.counted(periods.MONTH)

    assert counted(observes=True) == counted(observes=False)
