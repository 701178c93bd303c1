"""D5 of the field's cases: a tenant that writes the Redis that counts a policy's day.

What no sidecar can have written is not counted on: nothing more is granted, and the state says so.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis as client_of_redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota import quota, quota_store
from embedding_sidecar.quota.periods import DAY_SECONDS
from embedding_sidecar.redis_client import redis_url
from tests.parts import sidecar
from tests.parts.callbacks import draw

pytestmark = pytest.mark.integration

SCOPE = "team/policy"
LIMIT = 60
PRICE = 20 * 10**6
COST = 20
"""Nano-dollars of each call, of one token."""
MONEY = document.Quota(daily_requests=None, daily_cost=LIMIT * COST)
Attack = Callable[[client_of_redis.Redis, str], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


@pytest.fixture
def asked(server):
    with client_of_redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture(autouse=True)
def today():
    """Not at midnight, which would begin another day."""
    left = DAY_SECONDS - time.time() % DAY_SECONDS
    if left < 60:
        time.sleep(left + 1)


def day_key() -> str:
    return f"{quota_store.PREFIX}{{{SCOPE}}}:{int(time.time() // DAY_SECONDS)}"


class Pods:
    """Some sidecars' quotas over one Redis, whose clock goes by a second whenever they are asked:
    a store that was away is asked again."""

    def __init__(self, url: str, *, pods: int, limits: document.Quota) -> None:
        self.now = 0.0
        self.quotas = [
            quota.Quota(
                limits=limits,
                scope=SCOPE,
                store=quota_store.RedisStore(redis_url.connect(url)),
                clock=lambda: self.now,
            )
            for _ in range(pods)
        ]
        self.made = 0

    async def spend(self, at: int, *, calls: int) -> list[str]:
        """Make calls as long as they may be made; why not, of those that may not."""
        refusals = []
        for _ in range(calls):
            self.now += 1.0
            try:
                held = await draw(self.quotas[at], tokens=1, price=PRICE)
            except errors.Refused as error:
                refusals.append(error.code or "")
                continue
            self.made += 1
            self.quotas[at].settle(held, billed=True, tokens=1, price=PRICE)
        return refusals

    async def close(self) -> None:
        for it in self.quotas:
            await it.close()
            store = it.day.counter.store
            assert isinstance(store, quota_store.RedisStore)
            await store.close()


def run(url, scenario, *, pods=1, limits=None):
    """Run a scenario with pods over this Redis."""

    async def whole():
        made = Pods(url, pods=pods, limits=limits or document.Quota(daily_requests=LIMIT))
        try:
            return await scenario(made)
        finally:
            await made.close()

    return asyncio.run(whole())


def lease_of(client, key):
    return next(name.decode() for name in client.hkeys(key) if name.startswith(b"lease:"))


def of_lease(value: str) -> Attack:
    return lambda client, key: client.hset(key, lease_of(client, key), value)


def of_field(name: str, value: str) -> Attack:
    return lambda client, key: client.hset(key, name, value)


def without(name: str) -> Attack:
    return lambda client, key: client.hdel(key, name)


ATTACKS = {
    "calls -1000": of_field("calls", "-1000"),
    "calls of less than the leases": of_field("calls", "0"),
    "calls in a fraction": of_field("calls", "1.5"),
    "calls not a number": of_field("calls", "nan"),
    "calls infinite": of_field("calls", "-inf"),
    "calls in hexadecimal": of_field("calls", "0x1"),
    "calls in exponents": of_field("calls", "1e0"),
    "calls empty": of_field("calls", ""),
    "calls of a megabyte": of_field("calls", "0" * 2**20),
    "calls above the bound": of_field("calls", str(10**12 + 1)),
    "calls gone": without("calls"),
    "tokens -1": of_field("tokens", "-1"),
    "spent above counted": of_field("spent_calls", "59"),
    "spent of less than the leases": of_field("spent_calls", "0"),
    "spent tokens not a number": of_field("spent_tokens", "nan"),
    "revision -5": of_field("revision", "-5"),
    "revision gone": without("revision"),
    "incarnation a megabyte": of_field("incarnation", "x" * 2**20),
    "incarnation without form": of_field("incarnation", "\r\n"),
    "forgot a word": of_field("forgot", "yes"),
    "lease nan inf": of_lease("nan inf"),
    "lease of four words": of_lease("1 16 0 1"),
    "lease of six words": of_lease("1 16 0 1 0 0"),
    "lease negative": of_lease("1 -1000 0 0 0"),
    "lease in fractions": of_lease("1 1.5 0 0 0"),
    "lease above what is counted": of_lease("9 1000 0 0 0"),
    "lease empty": of_lease(""),
    "another lease not a number": of_field("lease:0", "nan inf"),
    "another lease above what is counted": of_field("lease:0", "1 61 0 0 0"),
    "another type": lambda client, key: (client.delete(key), client.set(key, "60")),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("pods", [1, 3])
def test_impossible_counters_grant_nothing_and_state_says_so(server, asked, attack, pods):
    """D5: `HSET calls -1000`, a lease of "nan inf": 444 were billed of 60, and it was `exact`."""

    async def scenario(made):
        for at in range(pods):
            await made.spend(at, calls=5)
        attack(asked, day_key())
        refusals = [await made.spend(at, calls=100) for at in range(pods)]
        made.now += 1.0
        return made.made, refusals, await made.quotas[-1].state()

    billed, refusals, state = run(server.url, scenario, pods=pods)
    assert billed <= LIMIT
    assert not state.exact
    # What had been granted before is still spent.
    assert all(set(it) == {"quota_store_unavailable"} for it in refusals)
    if asked.type(day_key()) == b"hash":
        assert state.exact_reason == "StoreCorrupt"
        assert quota_store.PREFIX in state.exact_text


def cost_of_lease(client, key):
    return next(name.decode() for name in client.hkeys(key) if name.startswith(b"cost:"))


def of_cost(value: str) -> Attack:
    return lambda client, key: client.hset(key, cost_of_lease(client, key), value)


ATTACKS_ON_MONEY = {
    "cost negative": of_field("cost", "-1000"),
    "cost of less than the leases": of_field("cost", "0"),
    "cost in a fraction": of_field("cost", "1.5"),
    "cost not a number": of_field("cost", "nan"),
    "cost above a million dollars": of_field("cost", str(10**15 + 1)),
    "cost of a megabyte": of_field("cost", "0" * 2**20),
    "cost gone": without("cost"),
    "spent cost gone": without("spent_cost"),
    "spent above counted": of_field("spent_cost", str(10**15)),
    "lease nan inf": of_cost("nan inf"),
    "lease of one word": of_cost("20"),
    "lease of three words": of_cost("20 20 20"),
    "lease negative": of_cost("-20 0"),
    "lease above what is counted": of_cost("1000000 0"),
    "lease empty": of_cost(""),
    "another lease not a number": of_field("cost:0", "nan inf"),
    "another lease above what is counted": of_field("cost:0", "1000000 0"),
}


@pytest.mark.parametrize("attack", ATTACKS_ON_MONEY.values(), ids=ATTACKS_ON_MONEY)
@pytest.mark.parametrize("pods", [1, 3])
def test_impossible_costs_grant_nothing_and_state_says_so(server, asked, attack, pods):
    async def scenario(made):
        for at in range(pods):
            await made.spend(at, calls=5)
        attack(asked, day_key())
        refusals = [await made.spend(at, calls=100) for at in range(pods)]
        made.now += 1.0
        return made.made, refusals, await made.quotas[-1].state()

    billed, refusals, state = run(server.url, scenario, pods=pods, limits=MONEY)
    assert billed <= LIMIT
    assert state.exact_reason == "StoreCorrupt"
    assert all(set(it) == {"quota_store_unavailable"} for it in refusals)


def test_deleted_key_is_counted_in_money_from_what_pods_knew(server, asked):
    async def scenario(made):
        await made.spend(0, calls=5)
        await made.spend(1, calls=50)
        asked.delete(day_key())
        for at in (1, 0):
            await made.spend(at, calls=100)
        return made.made, await made.quotas[0].state()

    billed, state = run(server.url, scenario, pods=2, limits=MONEY)
    # Each may hold less than a call needs.
    assert LIMIT - 2 <= billed <= LIMIT
    assert state.exact_reason == "StoreMayForget"


def test_refusal_says_that_store_holds_impossible_counts(server, asked):
    async def scenario(made):
        await made.spend(0, calls=1)
        of_field("calls", "-1000")(asked, day_key())
        await made.spend(0, calls=20)
        made.now += 1.0
        with pytest.raises(
            errors.Unavailable, match="holds counters that no sidecar can have written"
        ) as refused:
            await draw(made.quotas[0], tokens=1)
        return refused.value.retry_after_seconds

    assert run(server.url, scenario) == 1.0


def test_deleted_key_is_counted_from_what_pods_knew(server, asked):
    async def scenario(made):
        await made.spend(0, calls=5)
        await made.spend(1, calls=50)
        of_field("calls", "-1000")(asked, day_key())
        await made.spend(0, calls=100)
        asked.delete(day_key())
        for at in (1, 0):
            await made.spend(at, calls=100)
        return made.made, await made.quotas[0].state()

    billed, state = run(server.url, scenario, pods=2)
    assert billed == LIMIT
    assert state.exact_reason == "StoreMayForget"


def test_own_lease_that_is_gone_is_store_that_forgot(server, asked):
    async def scenario(made):
        await made.spend(0, calls=20)
        key = day_key()
        asked.hdel(key, lease_of(asked, key))
        asked.hset(key, mapping={"calls": 0, "tokens": 0, "spent_calls": 0, "spent_tokens": 0})
        await made.spend(0, calls=100)
        return made.made, await made.quotas[0].state()

    billed, state = run(server.url, scenario)
    assert billed == LIMIT
    assert state.exact_reason == "StoreMayForget"


def test_leases_beyond_sum_limit_are_still_counted(server, asked):
    """A claim costs no more the more pods there are; its own lease is looked at still."""
    pods = quota_store.MAX_SUMMED + 2

    async def scenario(made):
        for at in range(pods):
            await made.spend(at, calls=1)
        state = await made.quotas[0].state()
        of_field("calls", "0")(asked, day_key())
        await made.spend(0, calls=100)
        return state, await made.quotas[0].state()

    before, after = run(
        server.url, scenario, pods=pods, limits=document.Quota(daily_requests=10_000)
    )
    assert (before.exact_reason, before.used + before.reserved) == ("", 16 * pods)
    assert after.exact_reason == "StoreCorrupt"


FIELDS = ["calls", "tokens", "spent_calls", "spent_tokens", "revision", "forgot", "incarnation"]
COSTS = ["cost", "spent_cost"]
IMPOSSIBLE = (
    st.sampled_from(["nan", "inf", "-inf", "", " ", "1.5", "1e3", "0x10", "+1", "1 ", "\0", "None"])
    | st.integers(max_value=-1).map(str)
    | st.integers(min_value=10**12 + 1).map(str)
)
ANY = IMPOSSIBLE | st.integers(0, 100).map(str) | st.text(max_size=12)
WORDS = st.lists(ANY, max_size=6).map(" ".join)


@st.composite
def forgeries(draw):
    """What may be done to any field: set to anything, or taken away."""
    field = draw(st.sampled_from([*FIELDS, *COSTS, "own lease", "lease:0", "cost:0"]))
    if draw(st.integers(0, 9)) == 0:
        return field, None
    return field, draw(WORDS if "lease" in field or ":" in field else ANY)


def forge(client, field, value) -> None:
    key = day_key()
    if not client.exists(key):
        return
    if field == "own lease":
        field = (
            lease_of(client, key)
            if any(it.startswith(b"lease:") for it in client.hkeys(key))
            else "lease:1"
        )
    if value is None:
        client.hdel(key, field)
    else:
        client.hset(key, field, value.encode(errors="replace"))


PROPERTY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(
    rounds=st.lists(st.lists(forgeries(), max_size=4), min_size=1, max_size=5),
    limits=st.sampled_from([None, MONEY]),
)
def test_one_sidecar_spends_no_call_too_many_whatever_is_written(server, asked, rounds, limits):
    """What it has spent itself it claims as its floor, and no grant goes above the limit."""
    asked.flushall()

    async def scenario(made):
        await made.spend(0, calls=7)
        for forged in rounds:
            for field, value in forged:
                forge(asked, field, value)
            await made.spend(0, calls=20)
        await made.spend(0, calls=LIMIT)
        return made.made

    assert run(server.url, scenario, limits=limits) <= LIMIT


@PROPERTY
@given(
    rounds=st.lists(
        st.tuples(st.sampled_from(FIELDS[:6]), IMPOSSIBLE, st.integers(0, 2)), max_size=5
    )
)
def test_several_sidecars_never_overspend_on_impossible_counters(server, asked, rounds):
    asked.flushall()

    async def scenario(made):
        for at in range(3):
            await made.spend(at, calls=4)
        for field, value, at in rounds:
            forge(asked, field, value)
            await made.spend(at, calls=30)
        for at in range(3):
            await made.spend(at, calls=LIMIT)
        return made.made, (await made.quotas[0].state()).exact

    billed, exact = run(server.url, scenario, pods=3)
    assert billed <= LIMIT
    assert exact is (not rounds)
