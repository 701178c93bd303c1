"""The faults that the judgement of a run under fire finds."""

import math

import pytest

from embedding_sidecar.quota.claims import Amounts
from tests.parts.judgement import MOST_TOKENS, PODS, Billed, Call, Plan, Seen, amounts, judge

ENDS_AT = 1_000.0
DAY_OF_CALLS, DAY_OF_TOKENS = ("day", "calls"), ("day", "tokens")


def judged(
    *, before=0, after=0, under_way=0, limits=None, counted=None, ends="day", lost=0, dishonest=0
):
    """A run of 10 calls a day, each billed two tokens."""
    plan = Plan(
        seed=1, limits=limits or {DAY_OF_CALLS: 10}, ends=ends, ends_at=1.0, skews=(), events=()
    )
    times = [ENDS_AT - 1] * before + [ENDS_AT + 1] * after
    billed = [Billed(at, 2, 2) for at in times] + [Billed(ENDS_AT + 1, 2, 40)] * dishonest
    return judge(
        plan,
        Seen(
            billed=billed,
            calls=[Call(ENDS_AT - 1, 2, ended=math.inf)] * under_way,
            counted=counted or {},
            ended_at=None if ends is None else ENDS_AT,
            most_lost=lost,
            killed=1,
        ),
    )


TOKENS = {DAY_OF_TOKENS: 10}
COST = {("day", "cost"): 5 * amounts(2).cost}
MONTH = {("month", "calls"): 10}


@pytest.mark.parametrize(
    ("run", "overshoot"),
    [
        ({"before": 10, "after": 10}, 0),
        ({"before": 11}, 1),
        ({"after": 12}, 2),
        ({"before": 9, "after": 11, "under_way": 1}, 0),
        ({"before": 10, "after": 11, "under_way": 1}, 1),
        ({"before": 13, "ends": None}, 3),
        ({"counted": {"day": [Amounts(10), Amounts(14)]}}, 4),
        ({"before": 5, "after": 5, "limits": TOKENS}, 0),
        ({"before": 6, "limits": TOKENS}, 2),
        ({"after": 6, "limits": TOKENS}, 2),
        ({"after": 6, "limits": TOKENS, "under_way": 1}, 0),
        ({"counted": {"day": [Amounts(1, 11)]}, "limits": TOKENS}, 1),
        ({"before": 5, "after": 5, "limits": COST}, 0),
        ({"before": 6, "limits": COST}, amounts(2).cost),
        ({"dishonest": 5, "limits": TOKENS}, 0),
        ({"before": 5, "after": 5, "limits": MONTH}, 0),
        ({"before": 5, "after": 6, "limits": MONTH}, 1),
        ({"before": 10, "after": 10, "limits": MONTH, "ends": "month"}, 0),
        ({"before": 5, "after": 11, "limits": MONTH, "ends": "month"}, 1),
        ({"before": 10, "after": 10, "ends": "month"}, 0),
        ({"before": 4, "limits": {**MONTH, DAY_OF_TOKENS: 6}}, 2),
        ({"counted": {"month": [Amounts(11)]}, "limits": MONTH}, 1),
    ],
)
def test_overshoot_beyond_limit_is_found(run, overshoot):
    assert judged(**run).overshoot == overshoot


def test_lost_is_what_last_day_did_not_spend():
    assert judged(before=3, after=8).loss == 2
    assert judged(before=3, ends=None, lost=7).loss == 7
    assert judged(before=3, ends=None, lost=7).most_loss == 7


def test_living_pods_keep_fewer_tokens_than_one_call_each():
    outcome = judged(after=3, limits=TOKENS, lost=1)
    assert (outcome.loss, outcome.most_loss) == (4, (1 + PODS) * MOST_TOKENS)


def test_bound_of_dishonest_answer_is_not_lost():
    outcome = judged(dishonest=2, limits={DAY_OF_TOKENS: 100})
    assert (outcome.loss, outcome.dishonest) == (20, 2)


def test_loss_is_of_limit_that_was_used_up():
    outcome = judged(after=10, limits={DAY_OF_CALLS: 10, ("month", "tokens"): 10**6})
    assert (outcome.used_up, outcome.loss) == (DAY_OF_CALLS, 0)


def test_seed_says_same_each_time():
    assert Plan.of(7) == Plan.of(7)
    assert Plan.of(7) != Plan.of(8)
