"""Money and months: counted as calls are, refused by unit and period."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_contract import document, json_fields, money
from embedding_sidecar import errors
from embedding_sidecar.api import response_headers
from embedding_sidecar.quota import periods, prices
from embedding_sidecar.quota.claims import Amounts, Limits
from tests.parts.callbacks import draw
from tests.parts.counted import NOON, PRICE, Counted, calls, made
from tests.parts.settling import give_back

DOLLAR = money.NANOS_PER_DOLLAR
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def run(work):
    return asyncio.run(work)


@pytest.fixture
def policy():
    return Counted()


def test_call_is_counted_by_bound_and_settled_to_what_was_billed(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_cost=DOLLAR)
        held = await draw(sidecar, tokens=100, price=PRICE)
        before = sidecar.day.books.policy_used()
        sidecar.settle(held, billed=True, tokens=10, price=PRICE)
        return before, sidecar.day.books.policy_used(), policy.counted()

    before, after, counted = run(scenario())
    assert (before.cost, after.cost) == (100 * 20, 10 * 20)
    # Sixteen calls are drawn ahead.
    assert counted.cost == 16 * 100 * 20


@pytest.mark.parametrize(
    ("usage", "tokens"), [(-1, 0), (-(10**12), 0), (0, 0), (101, 100), (10**9, 100), (10**30, 100)]
)
def test_dishonest_usage_counts_nothing_to_bound(policy, usage, tokens):
    async def scenario():
        sidecar = policy.sidecar(daily_cost=DOLLAR, monthly_tokens=1000)
        await made(sidecar, bound=100, tokens=usage)
        return sidecar.day.books.policy_used(), sidecar.month.books.policy_used()

    day, month = run(scenario())
    assert (day.tokens, day.cost, month.tokens) == (tokens, tokens * 20, tokens)


def test_call_that_is_not_billed_costs_nothing(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_cost=DOLLAR, monthly_cost=DOLLAR)
        held = await draw(sidecar, tokens=100, price=PRICE)
        sidecar.settle(held, billed=False, tokens=0, price=PRICE)
        return sidecar.day.books.policy_used(), sidecar.month.books.policy_used()

    assert run(scenario()) == (Amounts(), Amounts())


@pytest.mark.parametrize("shared", [True, False], ids=["store", "memory"])
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"daily_cost": 20_000}, "This policy's 0.00002 US dollars a day are used up"),
        ({"monthly_cost": 20_000}, "This policy's 0.00002 US dollars a month are used up"),
        ({"monthly_requests": 100}, "This policy's 100 calls a month are used up"),
        ({"monthly_tokens": 1_000}, "This policy's 1000 tokens a month are used up"),
    ],
)
def test_limit_holds_and_refusal_names_unit_and_period(policy, shared, limits, message):
    count, refused = run(calls(policy.sidecar(shared=shared, **limits), bound=10))
    assert count == 100
    assert isinstance(refused, errors.QuotaExhausted)
    assert refused.message.startswith(message)
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    is_day = "a day" in message
    assert ("2026-11-30" if is_day else "2026-12-01") + "T00:00:00Z" in refused.message
    left = 43_200 if is_day else MONTH_END - NOON
    assert response_headers.refusal_headers(refused)["retry-after"] == str(int(left))


def test_whole_dollars_have_cents_in_refusal(policy):
    sidecar = policy.sidecar(monthly_cost=25 * DOLLAR)
    refused = run(made(sidecar, bound=10**12))
    assert refused.message.startswith("This policy's 25.00 US dollars a month")


def test_call_beyond_any_limit_is_refused_and_counts_nothing(policy):
    refused = run(made(policy.sidecar(daily_cost=money.MAX_NANOS), bound=10**15))
    assert isinstance(refused, errors.QuotaExhausted)
    assert policy.counted() == Amounts()


def test_pods_share_money_of_month_to_last_call(policy):
    async def scenario():
        sidecars = [policy.sidecar(monthly_cost=20_000) for _ in range(4)]
        count = 0
        for _ in range(3):
            for sidecar in sidecars:
                found, _ = await calls(sidecar, 20, bound=10)
                count += found
                await give_back(sidecar)
        return count

    assert run(scenario()) == 100
    assert policy.counted(periods.MONTH).cost == 20_000


def test_day_gets_back_what_month_refuses(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_requests=1_000, monthly_requests=5)
        count, _ = await calls(sidecar, bound=10)
        await give_back(sidecar)
        return count

    assert run(scenario()) == 5
    assert policy.counted().calls == policy.spent().calls == 5
    assert policy.counted(periods.MONTH).calls == 5


def test_month_spends_nothing_where_day_is_used_up(policy):
    """Both are asked at once, and the month's units are held for a later call."""

    async def scenario():
        sidecar = policy.sidecar(daily_requests=0, monthly_requests=5)
        refused = [await made(sidecar) for _ in range(7)]
        await give_back(sidecar)
        return refused

    assert all(isinstance(it, errors.QuotaExhausted) for it in run(scenario()))
    assert policy.counted(periods.MONTH) == Amounts()


def test_policy_without_months_and_money_counts_neither(policy):
    run(calls(policy.sidecar(daily_requests=1_000), 5))
    assert {scope for scope, _ in policy.store.days} == {"team/policy"}
    assert policy.counted().cost == 0


def test_call_that_waits_counts_in_limit_of_money_that_edit_brings(policy):
    async def scenario():
        policy.store.claim = slow = SlowClaim(policy.store.carry_out)
        sidecar = policy.sidecar(daily_requests=1_000, monthly_cost=DOLLAR)
        waiting = asyncio.create_task(draw(sidecar, tokens=100, price=PRICE))
        await asyncio.sleep(0)
        edited = document.Quota(daily_requests=1_000, daily_cost=DOLLAR, monthly_cost=DOLLAR)
        sidecar.obey(edited, store=policy.store)
        slow.goes_on.set()
        await waiting
        return policy.counted(), sidecar.day.books.policy_used()

    counted, used = run(scenario())
    assert used.cost == 100 * 20 <= counted.cost


class SlowClaim:
    """Claims that are carried out when the test says so."""

    def __init__(self, carry_out):
        self.carry_out = carry_out
        self.goes_on = asyncio.Event()

    async def __call__(self, claim):
        await self.goes_on.wait()
        return self.carry_out(claim)


def test_new_month_has_whole_limit_again(policy):
    async def scenario():
        sidecar = policy.sidecar(monthly_requests=5, daily_requests=100)
        first, _ = await calls(sidecar)
        policy.now = MONTH_END - 1
        before, _ = await calls(sidecar)
        policy.now = MONTH_END
        return first, before, (await calls(sidecar))[0]

    assert run(scenario()) == (5, 0, 5)


def test_month_counts_from_moment_it_has_limit(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_requests=1_000)
        await calls(sidecar, 7)
        limits = document.Quota(daily_requests=1_000, monthly_requests=5)
        sidecar.obey(limits, store=policy.store)
        first, _ = await calls(sidecar)
        # Without a limit for a while, it keeps what it has counted.
        sidecar.obey(document.Quota(daily_requests=1_000), store=policy.store)
        between, _ = await calls(sidecar, 3)
        sidecar.obey(limits, store=policy.store)
        return first, between, (await calls(sidecar))[0]

    assert run(scenario()) == (5, 3, 0)


@pytest.mark.parametrize(
    ("limits", "count", "message"),
    [
        (
            {"daily_cost": 20_000, "reserved_percent": 25},
            75,
            "This policy has 0.00002 US dollars a day, of which 0.000005 are reserved",
        ),
        ({"monthly_requests": 100, "reserved_percent": 30}, 70, "100 calls a month, of which 30 "),
        ({"monthly_tokens": 1_000}, 80, "This policy has 1000 tokens a month, of which 200 are"),
        ({"monthly_cost": 20_000, "reserved_percent": 100}, 0, "US dollars a month, of which"),
    ],
)
def test_background_leaves_reserve_of_each_unit_and_period(policy, limits, count, message):
    async def scenario():
        sidecar = policy.sidecar(**limits)
        found = await calls(sidecar, bound=10, background=True)
        return found, await calls(sidecar, bound=10)

    (found, refused), (rest, _) = run(scenario())
    assert (found, rest) == (count, 100 - count)
    assert isinstance(refused, errors.QuotaReserved)
    assert message in refused.message


def test_headers_tell_limit_that_leaves_less(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_requests=100, monthly_requests=50, monthly_tokens=10_000)
        await made(sidecar, bound=1)
        near_month = response_headers.ratelimit_lines(sidecar.left())
        sidecar.obey(document.Quota(daily_requests=20, monthly_requests=50), store=policy.store)
        return near_month, response_headers.ratelimit_lines(sidecar.left())

    month, day = run(scenario())
    assert "x-ratelimit-limit-requests: 50\r\n" in month
    assert "x-ratelimit-remaining-requests: 49\r\n" in month
    assert "x-ratelimit-reset-requests: 36h0m0s\r\n" in month
    assert "x-ratelimit-limit-tokens: 10000\r\n" in month
    assert "x-ratelimit-limit-requests: 20\r\n" in day
    assert "x-ratelimit-reset-requests: 12h0m0s\r\n" in day
    assert "tokens" not in day


def test_state_has_all_limits(policy):
    async def scenario():
        sidecar = policy.sidecar(daily_requests=100, daily_cost=DOLLAR, monthly_tokens=1_000_000)
        await made(sidecar)
        return await sidecar.state()

    state = run(scenario())
    found = {(it.period, it.unit): (it.limit, it.used, it.reserved) for it in state.limits}
    assert found == {
        ("day", "requests"): (100, 1, 5),
        ("day", "cost"): (DOLLAR, 200, 31_800),
        ("month", "tokens"): (1_000_000, 10, 6_390),
    }
    assert [f"{it.reset_at:%m-%d}" for it in state.limits] == ["11-30", "11-30", "12-01"]


def provider(price):
    return document.Provider(
        name="p", kind="OpenAI", model="m", base_url="http://p", price_per_million_tokens=price
    )


def priced(price, **limits):
    return document.PolicyDocument(
        namespace="n",
        name="p",
        providers=(
            provider("0.02"),
            document.Provider(**{**_fields(provider(price)), "name": "q"}),
        ),
        quota=document.Quota(**limits),
    )


def _fields(it):
    return {name: getattr(it, name) for name in it.__dataclass_fields__}


@pytest.mark.parametrize("price", [None, "nan", "-1", "1e9", "inf", "0,02", "12345678", "", "0x1"])
@pytest.mark.parametrize("limits", [{"daily_cost": 1}, {"monthly_cost": 1}])
def test_limit_in_money_without_price_is_invalid(price, limits):
    with pytest.raises(json_fields.InvalidDocument) as invalid:
        prices.of(priced(price, **limits))
    assert invalid.value.path == "providers[1].pricePerMillionTokens"


@pytest.mark.parametrize(("price", "nanos"), [("0", 0), ("0.13", 13 * 10**7), ("25", 25 * 10**9)])
def test_price_of_provider_is_counted(price, nanos):
    assert prices.of(priced(price, daily_cost=1)) == {"p": 2 * 10**7, "q": nanos}


def test_price_is_not_needed_without_limit_in_money():
    assert prices.of(priced(None, monthly_tokens=1)) == {}


@settings(max_examples=150, deadline=None)
@given(
    limits=st.fixed_dictionaries(
        {},
        optional={
            "daily_requests": st.integers(0, 60),
            "daily_tokens": st.integers(0, 600),
            "daily_cost": st.integers(0, 12_000),
            "monthly_requests": st.integers(0, 60),
            "monthly_tokens": st.integers(0, 600),
            "monthly_cost": st.integers(0, 12_000),
        },
    ),
    work=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(1, 60),
            st.integers(-5, 100),
            st.booleans(),
            st.sampled_from([0.0, 0.0, 30.0, 43_200.0, 86_400.0]),
        ),
        max_size=60,
    ),
)
def test_no_limit_of_any_period_and_unit_is_exceeded(limits, work):
    """By what each call was billed, and by what the store counts."""
    policy = Counted()

    async def scenario():
        sidecars = [policy.sidecar(**limits) for _ in range(3)]
        spent: dict[tuple[str, int], Amounts] = {}
        for which, bound, usage, billed, seconds in work:
            policy.now += seconds
            try:
                held = await draw(sidecars[which], tokens=bound, price=PRICE)
            except errors.QuotaExhausted:
                continue
            tokens = max(0, min(usage, bound)) if billed else 0
            cost = Amounts(int(billed), tokens, 20 * tokens)
            for period in (periods.DAY, periods.MONTH):
                at = period.word, period.number(policy.now)
                spent[at] = spent.get(at, Amounts()) + cost
            sidecars[which].settle(held, billed=billed, tokens=usage, price=PRICE)
            for (word, _), amounts in spent.items():
                assert not limits_of(word, limits).exceeded(amounts)
            for period in (periods.DAY, periods.MONTH):
                assert not limits_of(period.word, limits).exceeded(policy.counted(period))

    run(scenario())


def limits_of(word, limits):
    name = {"day": "daily", "month": "monthly"}[word]
    return Limits(*(limits.get(f"{name}_{unit}") for unit in ("requests", "tokens", "cost")))
