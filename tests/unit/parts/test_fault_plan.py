"""Plans of faults: drawn from a seed, at most two at a time, all kinds of all targets in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.parts import fault_plan

KINDS = {
    "a": fault_plan.OF_A_PROCESS,
    "b": fault_plan.OF_A_PROCESS,
    "way": fault_plan.OF_A_NETWORK,
}
SEEDS = st.integers(0, 10**9)


def plan(seed, *, seconds=300.0):
    return fault_plan.draw(seed, KINDS, seconds=seconds, longest_seconds=5.0)


@given(seed=SEEDS)
def test_plan_of_seed_is_always_same(seed):
    assert plan(seed) == plan(seed)


@given(seed=SEEDS, seconds=st.floats(0, 300))
def test_steps_begin_two_faults_at_most_and_one_of_target(seed, seconds):
    drawn = plan(seed, seconds=seconds)
    open_: list[fault_plan.Fault] = []
    for step in drawn.steps():
        assert step.at <= seconds
        if step.begins:
            open_.append(step.fault)
        else:
            open_.remove(step.fault)
        assert len(open_) <= 2
        assert len({it.target for it in open_}) == len(open_)
    assert open_ == []
    assert sum(it.begins for it in drawn.steps()) == len(drawn.faults)


@given(seed=SEEDS)
def test_plan_repeats_no_kind_of_target_before_all_others(seed):
    pairs = [(target, kind) for target, kinds in KINDS.items() for kind in kinds]
    counted = Counter((it.target, it.kind) for it in plan(seed).faults)
    assert counted.keys() == set(pairs)
    # The last faults that were drawn may end too late, or overlap the first ones left out.
    assert max(counted.values()) - min(counted.values()) <= 1
