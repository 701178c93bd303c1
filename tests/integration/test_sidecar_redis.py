"""Several sidecars over one real Redis: what they share, and how they work without it."""

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis as client_of_redis

from embedding_contract import names
from embedding_sidecar.quota import claims, periods
from tests.contract import test_quota_store as quota_cases
from tests.parts import sidecar

pytestmark = pytest.mark.integration


@pytest.fixture
def one(from_environment, redis):
    return from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="50")


@pytest.fixture
def other(from_environment, redis):
    return from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="50")


def kept(redis) -> int:
    """How many entries Redis has by now: answers do not wait for it."""
    with client_of_redis.Redis.from_url(redis.url) as client:
        return sum(1 for _ in client.scan_iter("aos:embedding:cache:*"))


def delete_cache(running, **body):
    return running.http.request(
        "DELETE",
        names.PATH_CACHE,
        headers={"Authorization": f"Bearer {sidecar.TOKEN}"},
        json=body or None,
    )


def test_vector_bought_by_one_sidecar_is_hit_in_other(one, other, redis, stand_in):
    first = one.embed("x")
    sidecar.wait_until(lambda: kept(redis) == 1)
    second = other.embed("x")
    assert first.json()["data"] == second.json()["data"]
    assert second.headers["x-embedding-cache"] == "hit"
    assert len(stand_in.calls) == 1
    assert other.page(names.PATH_CACHE_STATS)["hits"] == {"memory": 0, "redis": 1}


def test_clearing_by_one_sidecar_clears_memory_of_other(one, other, redis, stand_in):
    one.embed("x")
    sidecar.wait_until(lambda: kept(redis) == 1)
    other.embed("x")
    assert delete_cache(one).is_success
    assert one.embed("x").headers["x-embedding-cache"] == "miss"
    calls = len(stand_in.calls)
    # The other may answer from memory for as long as its next poll takes, and finds in Redis then
    # what the first has asked anew.
    sidecar.wait_until(lambda: other.page(names.PATH_CACHE_STATS)["memory"]["entries"] == 0)
    assert other.embed("x").headers["x-embedding-cache"] == "hit"
    assert other.page(names.PATH_CACHE_STATS)["hits"]["redis"] == 2
    assert len(stand_in.calls) == calls


def test_text_that_one_forgets_other_forgets_too_and_no_other_text(one, other, redis):
    forms: list[dict[str, Any]] = [{}, {"dimensions": 8}, {"input_type": "query"}]
    for running in (one, other):
        for form in forms:
            running.embed("x", "y", **form)
    sidecar.wait_until(lambda: kept(redis) == 2 * len(forms))
    assert delete_cache(one, input="x").json() == {"cleared": "items", "items": 1, "model": None}
    left = kept(redis)
    assert one.embed("x", "y").headers["x-embedding-cache-hits"] == "1/2"
    sidecar.wait_until(
        lambda: other.embed("x", "y", dimensions=8).headers["x-embedding-cache-hits"] == "1/2"
    )
    assert other.embed("x", "y", input_type="query").headers["x-embedding-cache-hits"] == "1/2"
    sidecar.wait_until(lambda: kept(redis) == left + len(forms))
    assert one.embed("x", "y", dimensions=8).headers["x-embedding-cache-hits"] == "2/2"


def test_day_is_one_for_all_and_exact(one, other, stand_in):
    def ask(number):
        return (one, other)[number % 2].embed(f"text {number}").status_code

    with ThreadPoolExecutor(8) as many:
        codes = list(many.map(ask, range(80)))
    assert codes.count(200) == 50
    assert codes.count(429) == 30
    assert len(stand_in.calls) == 50
    for running in (one, other):
        quota = running.page(names.PATH_QUOTA)
        assert (quota["current_count"], quota["exceeded"]) == (50, True)
        assert quota["exact"] is True
        assert quota["exact_reason"] == ""


def test_killed_sidecars_take_grant_along_and_never_more(from_environment, redis, stand_in):
    limit = 50
    lost = 0
    for number in range(4):
        running = from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA=str(limit))
        for text in range(5):
            assert running.embed(f"{number} {text}").is_success
        lost += running.page(names.PATH_QUOTA)["reserved"] - lost
        running.stop(signal.SIGKILL)
    last = from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA=str(limit))
    while last.embed(f"last {len(stand_in.calls)}").is_success:
        assert len(stand_in.calls) <= limit
    assert len(stand_in.calls) == limit - lost
    assert lost <= 4 * 16


def test_sidecar_that_ends_well_gives_its_grant_back(one, other):
    one.embed("x")
    assert one.stop() == 0
    quota = other.page(names.PATH_QUOTA)
    assert (quota["current_count"], quota["reserved"]) == (1, 0)


def test_hits_go_on_without_redis_and_calls_only_while_granted(one, redis, stand_in):
    one.embed("x")
    redis.kill()
    assert one.embed("x").headers["x-embedding-cache"] == "hit"
    answers = [one.embed(f"new {number}") for number in range(20)]
    refused = [answer for answer in answers if not answer.is_success]
    assert refused
    assert {answer.json()["error"]["code"] for answer in refused} == {"quota_store_unavailable"}
    assert {answer.status_code for answer in refused} == {503}
    assert len(stand_in.calls) == 21 - len(refused)
    assert delete_cache(one).status_code == 503
    assert delete_cache(one, input="x").status_code == 503
    assert one.embed("x").headers["x-embedding-cache"] == "hit"
    assert 'aos_embedding_errors_total{provider="",type="cache"}' in one.admin.get("/metrics").text
    redis.start()
    sidecar.wait_until(lambda: one.embed("after").is_success)
    assert one.page(names.PATH_QUOTA)["current_count"] == len(stand_in.calls)


def test_sidecar_ahead_of_stores_day_returns_nothing_of_its_day(redis):
    """The store's clock went back over midnight; other pods count on what was spent that day."""
    ten = claims.Amounts(10, 0)

    async def counts(store):
        claim = claims.LeaseClaim(
            scope="team/policy",
            lease="one",
            sequence=1,
            number=periods.NO_NUMBER,
            limits=claims.Limits(20, None),
        )
        first = await store.claim(replace(claim, need=ten, want=ten))
        later = replace(claim, number=first.number + 1)
        reported = await store.claim(replace(later, sequence=2))
        asked = await store.claim(replace(later, sequence=3, need=ten, want=ten))
        return first, reported, asked

    counted = quota_cases.InRedis(redis.url).with_store(counts)
    assert [count.counted for count in counted] == [ten, ten, ten]
