"""A sidecar of before money and one of now count one policy's day in one Redis.

`claim-before-money.lua` is, to the letter, the script of sidecars that know no money and no months.
"""

import asyncio
import time
from pathlib import Path

import pytest
import redis as client_of_redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claims import NOTHING, Amounts, LeaseClaim, Limits
from embedding_sidecar.quota.periods import DAY_SECONDS
from embedding_sidecar.redis_client import redis_url
from tests.parts import sidecar

pytestmark = pytest.mark.integration

BEFORE = Path(__file__).with_name("claim-before-money.lua").read_text(encoding="utf-8")
SCOPE = "team/policy"
LIMITS = Limits(10_000, 100_000, 10**9)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def today():
    """Not at midnight, which would begin another day."""
    left = DAY_SECONDS - time.time() % DAY_SECONDS
    if left < 60:
        time.sleep(left + 1)


def older(client, claim: LeaseClaim):
    """What the script of before answers to a claim, as that version's store sends it."""
    seen = claim.seen
    told = (seen.incarnation, seen.revision, *seen.counted[:2]) if seen else ("", 0, 0, 0)
    amounts = (it[:2] for it in (claim.limits, claim.floor, claim.spent, claim.need, claim.want))
    words = [claim.lease, claim.sequence, claim.number, *(it for two in amounts for it in two)]
    key = f"{quota_store.PREFIX}{{{SCOPE}}}"
    answer = client.eval(BEFORE, 1, key, *words, *told, 16, 2 * DAY_SECONDS, 10**12, 64)
    assert len(answer) == 13, answer
    return answer


def newer(server, *claims: LeaseClaim):
    async def whole():
        async with redis_url.connect(server.url) as client:
            store = quota_store.RedisStore(client)
            try:
                return [await store.claim(it) for it in claims]
            finally:
                await store.close()

    return asyncio.run(whole())


def claim(lease: str, sequence: int, **more) -> LeaseClaim:
    return LeaseClaim(
        scope=SCOPE,
        lease=lease,
        sequence=sequence,
        number=int(time.time() // DAY_SECONDS),
        limits=LIMITS,
        has_cost=lease == "new",
        **more,
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["old", "new"]),
        st.builds(Amounts, *[st.integers(0, it) for it in (16, 500, 5_000)]),
        st.integers(0, 4),
    ),
    max_size=12,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_sidecars_of_both_versions_count_one_day(server, steps):
    """Neither finds the other's fields impossible, and money is as the new one counted it."""
    with client_of_redis.Redis.from_url(server.url) as client:
        client.flushall()
        spent = {"old": NOTHING, "new": NOTHING}
        held = {"old": NOTHING, "new": NOTHING}
        seen = None
        for sequence, (lease, more, quarters) in enumerate(steps, start=1):
            used = Amounts(*(it * quarters // 4 for it in held[lease] - spent[lease]))
            spent[lease] += used
            asked = claim(lease, sequence, floor=spent[lease], spent=spent[lease], need=more)
            if lease == "old":
                asked = LeaseClaim(**{**_fields(asked), "want": more._replace(cost=0)})
                answer = older(client, asked)
                held["old"] = Amounts(answer[3], answer[4])
            else:
                asked = LeaseClaim(**{**_fields(asked), "want": more, "seen": seen})
                (seen,) = newer(server, asked)
                assert not seen.forgot
                held["new"] = seen.held
            counted = held["old"] + held["new"]
            key = client.keys()[0]
            found = [int(it or 0) for it in client.hmget(key, "calls", "tokens", "cost")]
            assert found == list(counted)


def _fields(claim: LeaseClaim):
    return {name: getattr(claim, name) for name in claim.__dataclass_fields__}


def test_older_sidecar_that_restores_lost_day_leaves_money_to_newer(server):
    with client_of_redis.Redis.from_url(server.url) as client:
        client.flushall()
        paid = Amounts(4, 100, 7_000)
        (last,) = newer(server, claim("new", 1, need=paid, want=paid))
        older(client, claim("old", 1, need=Amounts(2, 5), want=Amounts(2, 5)))
        client.flushall()
        older(client, claim("old", 2, floor=Amounts(2, 5)))
        (count,) = newer(server, claim("new", 2, floor=paid, spent=paid, seen=last))
    assert (count.forgot, count.counted) == (True, Amounts(6, 105, 7_000))
