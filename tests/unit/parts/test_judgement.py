"""The faults that the judgement of a run under fire finds."""

import math

import pytest

from tests.parts.judgement import MOST_TOKENS, PODS, Call, Plan, judge

MIDNIGHT = 1_000.0


def judged(*, before=0, after=0, under_way=0, tokens=None, counted=(), midnight=MIDNIGHT, lost=0):
    """A run of 10 calls a day, each billed two tokens."""
    plan = Plan(seed=1, calls=10, tokens=tokens, midnight_at=1.0, skews=(), events=())
    return judge(
        plan,
        billed=[(MIDNIGHT - 1, 2)] * before + [(MIDNIGHT + 1, 2)] * after,
        calls=[Call(MIDNIGHT - 1, 2, ended=math.inf)] * under_way,
        counted=counted,
        midnight=midnight,
        most_lost=lost,
        killed=1,
    )


@pytest.mark.parametrize(
    ("run", "overshoot"),
    [
        ({"before": 10, "after": 10}, 0),
        ({"before": 11}, 1),
        ({"after": 12}, 2),
        ({"before": 9, "after": 11, "under_way": 1}, 0),
        ({"before": 10, "after": 11, "under_way": 1}, 1),
        ({"before": 13, "midnight": None}, 3),
        ({"counted": [(10, 0), (14, 0)]}, 4),
        ({"before": 5, "after": 5, "tokens": 10}, 0),
        ({"before": 6, "tokens": 10}, 2),
        ({"after": 6, "tokens": 10}, 2),
        ({"after": 6, "tokens": 10, "under_way": 1}, 0),
        ({"counted": [(1, 11)], "tokens": 10}, 1),
    ],
)
def test_overshoot_beyond_limit_is_found(run, overshoot):
    assert judged(**run).overshoot == overshoot


def test_lost_is_what_last_day_did_not_spend():
    assert judged(before=3, after=8).loss == 2
    assert judged(before=3, midnight=None, lost=7).loss == 7
    assert judged(before=3, midnight=None, lost=7).most_loss == 7


def test_living_pods_keep_fewer_tokens_than_one_call_each():
    outcome = judged(after=3, tokens=10, lost=1)
    assert (outcome.loss, outcome.most_loss) == (4, (1 + PODS) * MOST_TOKENS)


def test_seed_says_same_each_time():
    assert Plan.of(7) == Plan.of(7)
    assert Plan.of(7) != Plan.of(8)
