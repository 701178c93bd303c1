"""The plan of a run under fire, by its seed, and the judgement of it afterwards."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

PODS = 8
LONGEST_WORDS = 8
MOST_TOKENS = 8 * LONGEST_WORDS + 8
"""What a call reserves at most: its bytes and 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed says of a run; times are seconds from its beginning."""

    seed: int
    calls: int
    tokens: int | None
    midnight_at: float | None
    skews: tuple[int, ...]
    events: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        drawn = random.Random(seed)
        is_by_tokens = drawn.random() < 0.25
        kinds = drawn.choices(["kill pod", "stop pod"], k=drawn.randint(2, 5))
        if drawn.random() < 0.7:
            kinds.append(drawn.choice(["kill redis", "restart redis", "stop redis"]))
        return cls(
            seed=seed,
            calls=10**6 if is_by_tokens else drawn.choice([40, 150, 400, 800]),
            tokens=drawn.choice([500, 2_500]) if is_by_tokens else None,
            midnight_at=drawn.uniform(0.5, 1.5) if drawn.random() < 0.6 else None,
            skews=tuple(drawn.choice([0, 0, -1, 1, -30, 30, 7_200]) for _ in range(PODS)),
            events=tuple(sorted((drawn.uniform(0.1, 1.8), kind) for kind in kinds)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: what was beyond the limits, and what was lost and how much might be."""

    plan: Plan
    overshoot: int
    loss: int
    most_loss: int
    billed: int
    killed: int

    def __str__(self) -> str:
        return (
            f"seed {self.plan.seed}: billed {self.billed} calls, overshoot {self.overshoot}, "
            f"lost {self.loss} of at most {self.most_loss} with {self.killed} pods killed"
        )


@dataclass
class Call:
    """One request of a caller: when it began and ended, and its words."""

    began: float
    words: int
    ended: float = math.inf


def judge(
    plan: Plan,
    *,
    billed: Sequence[tuple[float, int]],
    calls: Sequence[Call],
    counted: Sequence[tuple[int, int]],
    midnight: float | None,
    most_lost: int,
    killed: int,
) -> Outcome:
    """What came of a run, by the provider's log: the time and tokens of each call it billed.

    A call belongs to the day it was reserved in, which the provider does not know. So until
    midnight no more is billed than one day has, in the end no more than two days have, and after
    midnight no more than one and the calls that were under way then. `counted` is each day's calls
    and tokens by the store, `most_lost` the calls that the killed may have taken along.
    """
    ends = math.inf if midnight is None else midnight
    before = [tokens for at, tokens in billed if at < ends]
    after = [tokens for at, tokens in billed if at >= ends]
    either = [call.words for call in calls if call.began < ends < call.ended]
    last = before if midnight is None else after
    overs = [len(before) - plan.calls, len(billed) - 2 * plan.calls]
    overs += [len(after) - len(either) - plan.calls]
    overs += [of_day - plan.calls for of_day, _ in counted]
    loss, most = plan.calls - len(last), most_lost
    if plan.tokens is not None:
        overs += [sum(before) - plan.tokens, sum(before) + sum(after) - 2 * plan.tokens]
        overs += [sum(after) - sum(either) - plan.tokens]
        overs += [of_day - plan.tokens for _, of_day in counted]
        # Each pod may be left with less than a call needs.
        loss, most = plan.tokens - sum(last), (most_lost + PODS) * MOST_TOKENS
    return Outcome(
        plan=plan,
        overshoot=max(0, *overs),
        loss=max(0, loss),
        most_loss=most,
        billed=len(billed),
        killed=killed,
    )
