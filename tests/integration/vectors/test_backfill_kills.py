"""Workers killed at random points: each row once, none lost, and no text bought twice.

A run is repeated with its seed:

    EMBEDDING_KILL_SEED=17 pytest -m integration tests/integration/vectors/test_backfill_kills.py
"""

import os
import random
import time
from typing import Any

import pytest

from embedding_contract.index_document import Limits
from tests.parts import filling, worker_pods
from tests.parts.sidecar import wait_until

SMALL = "public.docs.small"
WORKERS = 4
BATCH_ROWS = 8
DISTINCT = 250
"""Of so many texts, with the delay below, a run has work for longer than its kills last."""

ROWS_FOR_EACH_KILL = 80
"""More than are embedded, by a provider that takes a second, from one kill of a pod to the next."""


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("EMBEDDING_KILL_SEED", time.time_ns() % 10**9))
    print(f"seed {chosen}")
    return chosen


def killed_at_random(texts: filling.Texts, *, kills: int, seed: int, sidecar_too: bool) -> int:
    """Kill workers one after the other, each replaced at once; how many sidecars were killed."""
    chance = random.Random(seed)
    distinct = DISTINCT * max(1, kills // 10)
    texts.write(limits=Limits(batch_rows=BATCH_ROWS))
    texts.insert({number: f"text {number % distinct}" for number in range(distinct * 3 // 2)})
    texts.stand_in.delay_seconds = 0.4
    workers = [texts.start() for _ in range(WORKERS)]
    sidecars = 0
    for number in range(kills):
        time.sleep(chance.uniform(0.05, 0.9))  # the point is that nothing is awaited
        victim = chance.randrange(WORKERS)
        workers[victim].kill()
        workers[victim].wait()
        if sidecar_too and number % 2:
            texts.start_sidecar()
            sidecars += 1
        if number % 5 == 0:
            # A text that changes meanwhile is right in the end as well.
            texts.server.execute(
                "UPDATE docs SET body = body || ' changed' WHERE id = %s",
                (chance.randrange(distinct),),
            )
        workers[victim] = texts.start()
    texts.stand_in.delay_seconds = 0
    for worker in workers:
        assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
    return sidecars


def each_row_is_right_once(texts: filling.Texts) -> None:
    rows = texts.server.execute("SELECT count(*) FROM docs")[0][0]
    assert texts.wrong() == []
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (rows, rows, 0)
    assert texts.phases() == {SMALL: "Switched"}
    assert texts.leases() == []


def no_text_was_bought_twice(texts: filling.Texts, *, kills: int, seed: int, say) -> None:
    killed_at_random(texts, kills=kills, seed=seed, sidecar_too=False)
    each_row_is_right_once(texts)
    billed = texts.billed()
    again = {text: number for text, number in billed.items() if number > 1}
    say(f"{kills} workers killed: {len(billed)} texts, {billed.total()} bought (seed {seed})")
    assert again == {}


def one_batch_for_each_kill(texts: filling.Texts, *, kills: int, seed: int, say) -> None:
    sidecars = killed_at_random(texts, kills=kills, seed=seed, sidecar_too=True)
    each_row_is_right_once(texts)
    billed = texts.billed()
    more = billed.total() - len(billed)
    say(f"{sidecars} sidecars killed: {len(billed)} texts, {more} bought again (seed {seed})")
    # The four workers share one sidecar here: with it goes what each has in flight, and what it had
    # bought for workers that were killed before and whose leases have not run out.
    assert more <= (sidecars * WORKERS + kills) * BATCH_ROWS


@pytest.mark.integration
def test_killed_workers_lose_no_row_and_buy_no_text_twice(texts, seed, say):
    no_text_was_bought_twice(texts, kills=10, seed=seed, say=say)


@pytest.mark.integration
def test_killed_sidecar_costs_one_batch_of_each_worker_at_most(texts, seed, say):
    one_batch_for_each_kill(texts, kills=10, seed=seed, say=say)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_killed_workers_lose_no_row_and_buy_no_text_twice(texts, seed, say):
    no_text_was_bought_twice(texts, kills=50, seed=seed, say=say)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_kills_cost_one_batch_of_each_victim_at_most(texts, seed, say):
    one_batch_for_each_kill(texts, kills=50, seed=seed, say=say)


def pods_killed_at_random(texts: filling.Texts, *, kills: int, seed: int, say) -> None:
    """Kill workers, each together with the sidecar of its own, as whole pods go."""
    chance = random.Random(seed)
    rows = ROWS_FOR_EACH_KILL * kills
    texts.write(limits=Limits(batch_rows=BATCH_ROWS))
    texts.insert({number: f"text {number}" for number in range(rows)})
    texts.stand_in.delay_seconds = 1
    with worker_pods.running(texts, count=WORKERS) as pods:
        for number in range(kills):
            time.sleep(chance.uniform(0.05, 0.9))  # the point is that nothing is awaited
            victim = chance.randrange(WORKERS)
            pods.kill(victim)
            if number % 5 == 0:
                texts.server.execute(
                    "UPDATE docs SET body = body || ' changed' WHERE id = %s",
                    (chance.randrange(rows),),
                )
            pods.replace(victim)
        texts.stand_in.delay_seconds = 0
        assert pods.ended() == [0] * WORKERS, texts.said()
    each_row_is_right_once(texts)
    billed = texts.billed()
    more = billed.total() - len(billed)
    say(f"{kills} pods killed: {len(billed)} texts, {more} bought again (seed {seed})")
    assert more <= kills * BATCH_ROWS


@pytest.mark.integration
def test_killed_pod_costs_one_batch_at_most(texts, seed, say):
    pods_killed_at_random(texts, kills=8, seed=seed, say=say)


def pods_that_share_a_cache_killed(texts: filling.Texts, *, kills: int, seed: int, say) -> None:
    pods_killed_at_random(texts, kills=kills, seed=seed, say=say)
    # What the killed had bought is not bought by others: this sidecar was asked for nothing yet.
    bought = texts.billed()
    rows = ROWS_FOR_EACH_KILL * kills
    texts.server.execute("INSERT INTO docs (id, body) SELECT id + %s, body FROM docs", (rows,))
    assert texts.run() == 0, texts.said()
    each_row_is_right_once(texts)
    assert texts.billed() == bought


@pytest.mark.integration
def test_killed_pod_costs_one_batch_at_most_where_pods_share_cache(texts, redis, seed, say):
    texts.share_cache(redis.url)
    pods_that_share_a_cache_killed(texts, kills=8, seed=seed, say=say)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_killed_pods_cost_one_batch_each_at_most(texts, seed, say):
    pods_killed_at_random(texts, kills=50, seed=seed, say=say)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_killed_pods_that_share_cache_cost_one_batch_each_at_most(texts, redis, seed, say):
    texts.share_cache(redis.url)
    pods_that_share_a_cache_killed(texts, kills=50, seed=seed, say=say)


def old_transactions(texts: filling.Texts) -> list[Any]:
    return texts.server.execute(
        "SELECT query, clock_timestamp() - xact_start FROM pg_stat_activity"
        " WHERE application_name LIKE 'embedding-vectors/%'"
        " AND clock_timestamp() - xact_start > interval '1 s'"
    )


def nothing_is_open_while_a_provider_is_awaited(texts: filling.Texts, *, seconds: float) -> None:
    texts.write(limits=Limits(batch_rows=BATCH_ROWS))
    texts.insert({number: f"text {number}" for number in range(BATCH_ROWS * 2)})
    texts.stand_in.delay_seconds = seconds
    worker = texts.start("backfill", "--lease-seconds", "60")
    looks = 0
    while worker.poll() is None:
        assert old_transactions(texts) == []
        looks += 1
        time.sleep(0.05)
    assert worker.returncode == 0, texts.said()
    assert looks > seconds
    wait_until(lambda: texts.wrong() == [])


@pytest.mark.integration
def test_no_transaction_is_open_while_slow_provider_is_awaited(texts):
    nothing_is_open_while_a_provider_is_awaited(texts, seconds=3)


@pytest.mark.soak
def test_no_transaction_is_open_while_provider_takes_ten_seconds(texts):
    nothing_is_open_while_a_provider_is_awaited(texts, seconds=10)
