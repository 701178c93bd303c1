"""The quota store in memory and the script in a real Redis give the same counts."""

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claim_script import CLAIM
from embedding_sidecar.quota.claims import NOTHING, Amounts, LeaseClaim, Limits
from embedding_sidecar.quota.periods import DAY, DAY_SECONDS, MONTH, NO_NUMBER
from embedding_sidecar.redis_client import redis_url, scripts
from tests.fakes.quota_store import FakeStore, last_seen
from tests.parts import ports, redis_forms, sidecar

pytestmark = pytest.mark.integration

SCOPE = "team/policy"
CALLS = Limits(100, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


@contextlib.asynccontextmanager
async def opened(client):
    store = quota_store.RedisStore(client)
    try:
        yield store
    finally:
        await store.close()


class InMemory:
    def __init__(self) -> None:
        self.store = FakeStore(time.time)

    def run(self, *claims: LeaseClaim):
        return [self.store.carry_out(claim) for claim in claims]

    def forget(self) -> None:
        self.store.forget()


class InRedis:
    def __init__(self, url: str) -> None:
        self.url = url
        self.forget()

    def run(self, *claims: LeaseClaim):
        async def all_in_turn(store):
            return [await store.claim(claim) for claim in claims]

        return self.with_store(all_in_turn)

    def forget(self) -> None:
        self.with_client(lambda client: client.flushall())

    def with_client(self, use):
        async def whole():
            async with redis_url.connect(self.url) as client:
                return await use(client)

        return asyncio.run(whole())

    def with_store(self, use):
        async def whole(client):
            async with opened(client) as store:
                return await use(store)

        return self.with_client(whole)


@pytest.fixture(params=["memory", "redis"])
def store(request, server):
    return InMemory() if request.param == "memory" else InRedis(server.url)


@pytest.fixture(autouse=True)
def today():
    """The day of the test, which a test near midnight waits for."""
    left = DAY_SECONDS - time.time() % DAY_SECONDS
    if left < 20:
        time.sleep(left + 1)
    return int(time.time() // DAY_SECONDS)


def claim(sequence: int, *, lease: str = "one", limits: Limits = CALLS, **more) -> LeaseClaim:
    more.setdefault("number", more.get("period", DAY).number(time.time()))
    return LeaseClaim(scope=SCOPE, lease=lease, sequence=sequence, limits=limits, **more)


def ask(sequence: int, *, lease: str = "one", limits: Limits = CALLS, want: int = 16, **more):
    more = {"need": Amounts(1), **more}
    return claim(sequence, lease=lease, limits=limits, want=Amounts(want), **more)


def test_grant_is_counted_when_it_is_made(store, today):
    (count,) = store.run(ask(1, limits=Limits(1000, None)))
    assert (count.held, count.counted, count.spent) == (Amounts(16), Amounts(16), NOTHING)
    assert (count.number, count.short, count.forgot) == (today, "", False)
    assert 0 < count.ends_in_seconds <= DAY_SECONDS


def test_leases_add_up(store):
    counts = store.run(ask(1, want=3), ask(1, lease="other", want=2))
    assert [count.held.calls for count in counts] == [3, 2]
    assert counts[-1].counted == Amounts(5)


def test_claim_near_limit_gets_less_and_at_limit_nothing(store):
    counts = store.run(
        ask(1, limits=Limits(64, None)),
        ask(2, limits=Limits(4, None), floor=Amounts(3)),
        ask(3, limits=Limits(4, None), floor=Amounts(4)),
    )
    assert [count.held.calls for count in counts] == [4, 4, 4]
    assert [count.short for count in counts] == ["", "", "calls"]


def test_claim_grants_nothing_when_one_of_two_limits_is_too_low(store):
    both = Limits(100, 50)
    short, enough = store.run(
        claim(1, limits=both, need=Amounts(1, 60), want=Amounts(16, 960)),
        claim(2, limits=both, need=Amounts(1, 50), want=Amounts(16, 800)),
    )
    assert (short.short, short.counted) == ("tokens", NOTHING)
    assert (enough.short, enough.held.tokens) == ("", 50)


def test_claim_without_limits_grants_all_that_is_wanted(store):
    (count,) = store.run(ask(1, limits=Limits(None, None), want=10**12))
    assert count.counted == Amounts(10**12)


def test_large_numbers_stay_exact(store):
    large = Limits(10**12, 10**12)
    counts = store.run(
        claim(1, limits=large, floor=Amounts(10**12 - 1, 10**12 - 3)),
        claim(
            2,
            limits=large,
            floor=Amounts(10**12 - 1, 10**12 - 3),
            need=Amounts(1, 3),
            want=Amounts(16, 48),
        ),
    )
    assert counts[-1].counted == Amounts(10**12, 10**12)


def test_floor_gives_rest_back(store):
    counts = store.run(ask(1, want=5), claim(2, floor=Amounts(2, 7), spent=Amounts(2, 7)))
    assert counts[-1].held == counts[-1].counted == counts[-1].spent == Amounts(2, 7)


def test_claim_sent_twice_is_carried_out_once(store):
    first, again = store.run(ask(1), ask(1))
    assert first.held == again.held
    assert first.counted == again.counted
    assert again.short == ""


def test_claim_that_comes_late_changes_nothing(store):
    counts = store.run(ask(1, want=5), claim(3, floor=Amounts(2)), ask(2, floor=Amounts(5)))
    assert counts[-1].held == counts[-1].counted == Amounts(2)


def test_floor_that_store_does_not_know_is_counted(store):
    """A sidecar that counted alone for a while, or a store that forgot."""
    (count,) = store.run(claim(1, floor=Amounts(30), spent=Amounts(30)))
    assert count.counted == Amounts(30)


@pytest.mark.parametrize("days", [-1, 1])
def test_figures_of_another_day_count_as_nothing(store, today, days):
    seen = last_seen(incarnation="x.1", revision=9, counted=Amounts(90))
    (count,) = store.run(
        ask(1, number=today + days, floor=Amounts(30), spent=Amounts(30), seen=seen, want=2)
    )
    assert (count.number, count.held, count.counted) == (today, Amounts(2), Amounts(2))
    assert not count.forgot


def test_first_claim_knows_no_day(store, today):
    (count,) = store.run(ask(1, number=NO_NUMBER))
    assert count.number == today


def seen_in(count):
    return last_seen(
        incarnation=count.incarnation,
        revision=count.revision,
        counted=count.counted,
        has_cost=count.has_cost,
    )


def test_store_that_forgot_everything_takes_back_what_was_seen(store):
    *_, last = store.run(ask(1, want=5), ask(1, lease="other", want=4))
    store.forget()
    (count,) = store.run(claim(2, lease="other", floor=Amounts(4), seen=seen_in(last)))
    assert count.counted == Amounts(9)
    assert count.forgot


def test_store_that_went_back_takes_what_was_seen(store):
    first, last = store.run(ask(1, want=5), ask(1, lease="other", want=4))
    ahead = replace(seen_in(last), revision=last.revision + 7, counted=Amounts(40))
    (count,) = store.run(claim(2, floor=Amounts(5), seen=ahead))
    assert (count.counted, count.forgot) == (Amounts(40), True)
    assert count.revision > ahead.revision
    assert count.incarnation != first.incarnation


def test_claims_after_restoration_add_what_each_saw(store):
    first, last = store.run(ask(1, want=5), ask(1, lease="other", want=4))
    store.forget()
    counts = store.run(
        claim(2, floor=Amounts(5), seen=seen_in(first)),
        claim(2, lease="other", floor=Amounts(4), seen=seen_in(last)),
    )
    assert [count.counted.calls for count in counts] == [5, 9]


def test_older_figure_of_store_that_did_not_forget_changes_nothing(store):
    first, _ = store.run(ask(1, want=5), ask(2, floor=Amounts(5)))
    (count,) = store.run(claim(3, floor=Amounts(1), seen=seen_in(first)))
    assert (count.counted, count.forgot) == (Amounts(1), False)


def test_policies_do_not_share_day(store):
    counts = store.run(ask(1), replace(ask(1), scope="team/other"))
    assert [count.counted.calls for count in counts] == [6, 6]


def background(sequence: int, **more):
    """A claim of background work, of a day of 100 calls and 1,000 tokens with a fifth reserved."""
    return ask(sequence, lease="background", limits=WHOLE.without(Amounts(20, 200)), **more)


WHOLE = Limits(100, 1000)


def test_reserve_is_kept_from_background_and_given_to_applications(store):
    counts = store.run(
        claim(1, limits=WHOLE, floor=Amounts(79, 500)),
        background(1),
        background(2, floor=Amounts(1)),
        ask(2, limits=WHOLE, floor=Amounts(79, 500), want=1),
    )
    assert [count.held.calls for count in counts] == [79, 1, 1, 80]
    assert [count.short for count in counts] == ["", "", "calls", ""]
    assert counts[-1].counted == Amounts(81, 500)


def test_tokens_that_are_reserved_are_left_too(store):
    limits = WHOLE.without(Amounts(20, 200))
    short, enough = store.run(
        claim(1, limits=limits, need=Amounts(1, 801), want=Amounts(1, 801)),
        claim(2, limits=limits, need=Amounts(1, 800), want=Amounts(1, 800)),
    )
    assert (short.short, short.counted) == ("tokens", NOTHING)
    assert (enough.short, enough.held) == ("", Amounts(1, 800))


def test_background_work_keeps_excess_lease_and_gets_no_more(store):
    """The policy's reserve has grown: what was spent is spent."""
    (before, now) = store.run(
        claim(1, lease="background", limits=WHOLE, floor=Amounts(90)),
        background(2, floor=Amounts(90), spent=Amounts(90)),
    )
    assert (now.held, now.short) == (before.held, "calls")


def test_background_work_near_reserve_gets_single_calls(store):
    (count,) = store.run(background(1))
    # A sixteenth of what is left beyond the reserve.
    assert count.held.calls == 5


def test_sidecar_that_knows_no_classes_claims_of_same_day(store):
    """Both versions write and read one format: a class is only how much of the day a claim sees."""
    counts = store.run(
        ask(1, lease="older", limits=Limits(100, None), floor=Amounts(85)),
        background(1),
        ask(2, lease="older", limits=Limits(100, None), floor=Amounts(85), want=1),
    )
    assert [count.short for count in counts] == ["", "calls", ""]
    assert counts[-1].counted == Amounts(86)


MONEY = Limits(100, None, 10**15)


def paid(sequence: int, **more):
    """A claim of a policy that limits money."""
    return claim(sequence, **{"limits": MONEY, "has_cost": True, **more})


def test_cost_is_granted_and_settled_beside_calls(store):
    counts = store.run(
        paid(1, need=Amounts(1, 0, 300), want=Amounts(5, 0, 1500)),
        paid(2, floor=Amounts(1, 0, 20), spent=Amounts(1, 0, 20)),
    )
    assert [count.held for count in counts] == [Amounts(5, 0, 1500), Amounts(1, 0, 20)]
    assert counts[-1].counted == counts[-1].spent == Amounts(1, 0, 20)


def test_claim_beyond_limit_in_money_gets_nothing_and_names_it(store):
    limits = Limits(100, None, 299)
    (count,) = store.run(paid(1, limits=limits, need=Amounts(1, 0, 300), want=Amounts(1, 0, 300)))
    assert (count.short, count.counted) == ("cost", Amounts())


def test_million_dollars_stay_exact(store):
    most = 10**15
    counts = store.run(
        paid(1, floor=Amounts(1, 0, most - 3)),
        paid(2, floor=Amounts(1, 0, most - 3), need=Amounts(1, 0, 3), want=Amounts(1, 0, 48)),
        paid(3, floor=Amounts(2, 0, most), need=Amounts(1, 0, 1), want=Amounts(1, 0, 1)),
    )
    assert [count.counted.cost for count in counts] == [most - 3, most, most]
    assert [count.short for count in counts] == ["", "", "cost"]


def test_policy_that_limits_no_money_writes_none(server):
    store = InRedis(server.url)
    store.run(ask(1, floor=Amounts(1, 5, 70), spent=Amounts(1, 5, 70)))
    assert not [it for it in fields(store) if b"cost" in it]


def fields(store):
    async def look(client):
        (key,) = await client.keys()
        return await client.hgetall(key)

    return store.with_client(look)


def test_limit_in_money_that_is_new_is_no_sign_of_loss(store):
    counts = store.run(
        ask(1, want=2),
        paid(1, lease="other", need=Amounts(1, 0, 70), want=Amounts(1, 0, 70)),
        ask(2, want=2, floor=Amounts(2)),
    )
    last = seen_in(counts[-1])
    assert not last.has_cost
    (count,) = store.run(paid(3, floor=Amounts(2), seen=last))
    assert (count.forgot, count.counted.cost) == (False, 70)


def test_store_that_forgot_takes_back_money_that_was_seen(store):
    *_, last = store.run(
        paid(1, need=Amounts(1, 0, 70), want=Amounts(1, 0, 70)),
        paid(1, lease="other", need=Amounts(1, 0, 9), want=Amounts(1, 0, 9)),
    )
    store.forget()
    (count,) = store.run(paid(2, lease="other", floor=Amounts(1, 0, 9), seen=seen_in(last)))
    assert (count.counted, count.forgot) == (Amounts(2, 0, 79), True)


def test_month_is_counted_beside_day(store):
    counts = store.run(ask(1, want=5), ask(1, want=3, period=MONTH))
    assert [count.counted.calls for count in counts] == [5, 3]
    now = time.time()
    assert counts[-1].number == MONTH.number(now)
    left = MONTH.end(counts[-1].number).timestamp() - now
    assert abs(counts[-1].ends_in_seconds - left) < 5


def test_month_is_kept_for_two_months_under_tag_of_its_policy(server):
    store = InRedis(server.url)
    store.run(ask(1, period=MONTH))

    async def look(client):
        (key,) = await client.keys()
        return key, await client.ttl(key)

    key, seconds = store.with_client(look)
    assert key == f"aos:embedding:quota:{{team/policy}}:month:{MONTH.number(time.time())}".encode()
    assert 31 * DAY_SECONDS < seconds <= 62 * DAY_SECONDS


LEAP_DAY = int(datetime(2028, 2, 29, tzinfo=UTC).timestamp())
NO_LEAP_DAY = int(datetime(2100, 2, 28, tzinfo=UTC).timestamp())
AT = "aos:embedding:quota:time"
LIVES_BY_KEY = f"""
local server = redis
local redis = {{call = function(command, ...)
  if command == 'TIME' then return {{server.call('GET', '{AT}'), '0'}} end
  return server.call(command, ...)
end}}
"""


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    period=st.sampled_from([DAY, MONTH]),
    seconds=st.integers(min_value=0, max_value=250 * 10**9),
    to_end=st.booleans(),
)
@example(period=MONTH, seconds=LEAP_DAY, to_end=True)
@example(period=MONTH, seconds=NO_LEAP_DAY, to_end=True)
@example(period=MONTH, seconds=NO_LEAP_DAY + DAY_SECONDS, to_end=False)
def test_periods_of_script_are_those_of_calendar(server, period, seconds, to_end):
    if to_end:
        seconds = int(period.end(period.number(seconds)).timestamp()) - 1

    async def look(client):
        async with opened(client) as store:
            await client.set(AT, seconds)
            store._script = scripts.of(
                client, LIVES_BY_KEY + CLAIM, needs=scripts.Rights(keys="", commands="")
            )
            return await store.claim(claim(1, period=period, lease=f"at{seconds}", number=-1))

    count = InRedis(server.url).with_client(look)
    assert count.number == period.number(seconds)
    assert period.end_seconds(count.number) == period.end(count.number).timestamp()
    assert count.ends_in_seconds == period.end(count.number).timestamp() - seconds


AMOUNTS = st.builds(
    Amounts,
    st.integers(min_value=0, max_value=40),
    st.integers(min_value=0, max_value=400),
    st.integers(min_value=0, max_value=400) | st.integers(min_value=0, max_value=10**14),
)
LIMIT = st.none() | st.integers(min_value=0, max_value=500)
CLAIMS = st.lists(
    st.builds(
        lambda lease, sequence, period, has_cost, limits, rest, spent, need, more, seen: claim(
            sequence,
            lease=lease,
            period=period,
            has_cost=has_cost,
            limits=limits if has_cost else limits._replace(cost=None),
            floor=spent + rest,
            spent=spent,
            need=need,
            want=need + more,
            seen=seen,
        ),
        st.sampled_from(["one", "other"]),
        st.integers(min_value=1, max_value=8),
        st.sampled_from([DAY, DAY, MONTH]),
        st.booleans(),
        st.builds(Limits, LIMIT, LIMIT, LIMIT | st.integers(min_value=0, max_value=10**15)),
        AMOUNTS,
        AMOUNTS,
        AMOUNTS,
        AMOUNTS,
        st.builds(
            last_seen,
            incarnation=st.sampled_from(["", "one.1", "other.1"]),
            revision=st.integers(min_value=0, max_value=10),
            counted=AMOUNTS,
            has_cost=st.booleans(),
        ),
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(claims=CLAIMS)
def test_both_stores_answer_any_claims_alike(server, claims):
    async def all_in_turn(store):
        return [await answer(store, claim) for claim in claims]

    async def answer(store, claim):
        try:
            return replace(await store.claim(claim), ends_in_seconds=0.0)
        except errors.StoreCorrupt:
            # The lease has gone on since: nobody waits for the answer to such a claim.
            return None

    counts = zip(InMemory().run(*claims), claims, strict=True)
    assert InRedis(server.url).with_store(all_in_turn) == [
        replace(count, ends_in_seconds=0.0) if quota_store._can_be(count, claim) else None
        for count, claim in counts
    ]


def test_day_is_kept_for_two_days_under_tag_of_its_policy(server, today):
    store = InRedis(server.url)
    store.run(ask(1))

    async def look(client):
        (key,) = await client.keys()
        return key, await client.ttl(key)

    key, seconds = store.with_client(look)
    assert key == f"aos:embedding:quota:{{team/policy}}:{today}".encode()
    assert DAY_SECONDS < seconds <= 2 * DAY_SECONDS


def test_redis_that_keeps_what_it_acknowledged_is_known_by_its_settings(server):
    store = InRedis(server.url)

    async def look(client):
        async with opened(client) as asked:
            kept = await asked.durability()
            await client.config_set("appendfsync", "everysec")
            try:
                return kept, await asked.durability()
            finally:
                await client.config_set("appendfsync", "always")

    assert store.with_client(look) == ("", "appendfsync is everysec, not always")


def test_redis_that_replica_may_take_over_from_may_forget(server, tmp_path):
    replica = redis_forms.Server(
        tmp_path, "--replicaof", "127.0.0.1", server.url.rpartition(":")[2].partition("/")[0]
    )
    store = InRedis(server.url)
    try:
        sidecar.wait_until(lambda: "replica" in store.with_store(quota_store.RedisStore.durability))
    finally:
        replica.kill()


def test_redis_that_hides_its_settings_may_forget(server):
    store = InRedis(server.url)

    async def look(client):
        await client.acl_setuser(
            "plain",
            enabled=True,
            nopass=True,
            keys=["*"],
            categories=["+@all"],
            commands=["-config"],
        )
        url = server.url.replace("redis://", "redis://plain:any@")
        async with opened(redis_url.connect(url)) as plain:
            return await plain.durability()

    assert "CONFIG GET" in store.with_client(look)


def test_redis_that_is_gone_is_away():
    gone = f"redis://127.0.0.1:{ports.free()}/0"

    async def look():
        async with opened(redis_url.connect(gone)) as store:
            with pytest.raises(errors.StoreAway):
                await store.claim(ask(1))
            with pytest.raises(errors.StoreAway):
                await store.durability()

    asyncio.run(look())


def test_redis_that_cannot_write_is_away_until_it_can(server):
    async def look(client):
        await client.config_set("maxmemory", "1")
        try:
            async with opened(client) as store:
                with pytest.raises(errors.StoreAway, match="OOM"):
                    await store.claim(ask(1))
                await client.config_set("maxmemory", "0")
                return await store.claim(ask(2))
        finally:
            await client.config_set("maxmemory", "0")

    assert InRedis(server.url).with_client(look).held == Amounts(6)
