"""A policy's day and month are never overspent in calls, tokens or money, and little is lost,
whatever dies, sleeps, comes late or is dishonest.

Billed is what the provider's own log says. A run is repeated with its seed:

    EMBEDDING_FIRE_SEEDS=17,18 pytest -m integration tests/integration/test_quota_under_fire.py
"""

import os
import random
import time

import pytest

from embedding_sidecar.quota.claims import Amounts
from tests.parts import fire

RUNS = 20
SOAK_RUNS = 1_000


@pytest.fixture
def burning(tmp_path):
    burning = fire.Fire(tmp_path)
    try:
        burning.begin()
        yield burning
    finally:
        burning.end()


def under_fire(burning: fire.Fire, *, runs: int, say) -> None:
    given = os.environ.get("EMBEDDING_FIRE_SEEDS", "")
    seeds = [int(seed) for seed in given.split(",") if seed]
    outcomes = []
    for seed in seeds or random.Random(time.time_ns()).sample(range(10**9), runs):
        print(f"seed {seed}")
        outcomes.append(burning.run(seed))
        print(outcomes[-1])
        assert outcomes[-1].overshoot == 0, str(outcomes[-1])
        assert outcomes[-1].loss <= outcomes[-1].most_loss, str(outcomes[-1])
    say(
        f"quota under fire: {len(outcomes)} runs, {sum(it.billed for it in outcomes)} calls "
        f"billed, {sum(it.dishonest for it in outcomes)} of them with dishonest usage, "
        f"{sum(it.killed for it in outcomes)} sidecars killed; worst overshoot "
        f"{max(it.overshoot for it in outcomes)}"
    )
    for unit in Amounts._fields:
        of_unit = [it for it in outcomes if it.used_up[1] == unit]
        if of_unit:
            worst = max(of_unit, key=lambda it: it.loss)
            say(f"worst loss of {unit} (costs are in nano-dollars): {worst.loss} ({worst})")


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_limit_holds_under_fire_and_loss_is_bounded(burning, say):
    under_fire(burning, runs=RUNS, say=say)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3_600)
def test_limit_holds_under_long_fire_and_loss_is_bounded(burning, say):
    under_fire(burning, runs=SOAK_RUNS, say=say)
