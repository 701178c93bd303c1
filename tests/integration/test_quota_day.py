"""A real sidecar's figures of a day, over a real Redis: in headers, and on its page."""

import signal
import time

import pytest
import redis as client_of_redis

from embedding_contract import names
from embedding_sidecar.quota import periods
from tests.parts import clock

pytestmark = pytest.mark.integration

TWO_HOURS = 7_200
NEAR_MIDNIGHT = 20


@pytest.fixture
def seconds_left(redis):
    """Tells how long the day lasts by the store's clock."""

    def ask() -> float:
        with client_of_redis.Redis(port=redis.port) as asked:
            seconds, microseconds = asked.time()
        return float(periods.DAY_SECONDS - (seconds + microseconds / 1e6) % periods.DAY_SECONDS)

    if ask() < NEAR_MIDNIGHT:
        time.sleep(NEAR_MIDNIGHT)
    return ask


def in_seconds(duration: str) -> int:
    """A duration as Go writes it: `1h2m3s`."""
    number, total = "", 0
    for letter in duration:
        if letter.isdigit():
            number += letter
        else:
            total += int(number) * {"h": 3_600, "m": 60, "s": 1}[letter]
            number = ""
    return total


@pytest.mark.parametrize("ahead", [TWO_HOURS, -TWO_HOURS])
def test_refusal_tells_day_by_clock_of_store(
    from_environment, redis, seconds_left, tmp_path, ahead
):
    own = clock.Clock(tmp_path / "clock")
    own.set(ahead_seconds=ahead)
    running = from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="1", **own.environment)
    assert running.embed("one").is_success
    most = seconds_left()
    refused = running.embed("two")
    least = seconds_left()
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
    assert least <= int(refused.headers["retry-after"]) <= most + 1
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    reset = in_seconds(refused.headers["x-ratelimit-reset-requests"])
    assert reset == int(refused.headers["retry-after"])
    # There is no limit on tokens.
    assert "x-ratelimit-limit-tokens" not in refused.headers
    assert running.embed("one").headers["x-embedding-cache"] == "hit"


def test_answer_that_took_call_says_what_is_left_and_hit_does_not(from_environment, redis):
    running = from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA="100")
    left = [running.embed(text).headers.get("x-ratelimit-remaining-requests") for text in "abca"]
    assert left == ["99", "98", "97", None]


def test_day_is_exceeded_when_dead_hold_rest_of_it(from_environment, redis):
    """`remaining` is what was not spent, and nobody can spend it."""
    limit = 40
    dead, living = (
        from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA=str(limit)) for _ in range(2)
    )
    assert dead.embed("x").is_success
    dead.stop(signal.SIGKILL)
    assert living.page(names.PATH_QUOTA)["exceeded"] is False
    for number in range(limit):
        running = living.embed(f"text {number}")
    assert running.status_code == 429
    quota = living.page(names.PATH_QUOTA)
    assert quota["exceeded"] is True
    assert quota["remaining"] == quota["reserved"] > 0
