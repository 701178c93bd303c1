"""The plan of a run under fire, by its seed, and the judgement of it afterwards."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embedding_contract import money
from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.periods import DAY, MONTH

PODS = 8
LONGEST_WORDS = 8
MOST_TOKENS = 8 * LONGEST_WORDS + 8
"""What a call reserves at most: its bytes and 8."""
PRICE = "12.3457"
"""US dollars for a million tokens: no whole number of nano-dollars for each."""

Limit = tuple[str, str]
"""A period, `day` or `month`, and a unit of Amounts."""


def amounts(tokens: int) -> Amounts:
    """What a call of so many tokens counts."""
    return Amounts(1, tokens, money.cost(tokens, price=money.price(PRICE)))


_SIZES: Mapping[str, Sequence[int]] = {
    "calls": [40, 150, 400, 800],
    "tokens": [500, 2_500],
    # A limit in money has six decimals.
    "cost": [amounts(it).cost // 1_000 * 1_000 for it in (500, 2_500)],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed says of a run; times are seconds from its beginning.

    `ends` is the period that ends in the run, at `ends_at`: with a month ends its last day.
    """

    seed: int
    limits: Mapping[Limit, int]
    ends: str | None
    ends_at: float
    skews: tuple[int, ...]
    events: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        drawn = random.Random(seed)
        kinds = drawn.choices(["kill pod", "stop pod"], k=drawn.randint(2, 5))
        if drawn.random() < 0.7:
            kinds.append(drawn.choice(["kill redis", "restart redis", "stop redis"]))
        limited = drawn.choice(
            [["day"], ["day"], ["month"], ["month"], ["day", "month"]],
        )
        limits = {}
        for period in limited:
            unit = drawn.choice(list(Amounts._fields))
            limits[period, unit] = drawn.choice(_SIZES[unit])
        return cls(
            seed=seed,
            limits=limits,
            ends=drawn.choice([None, "day", "month"]),
            ends_at=drawn.uniform(0.5, 1.5),
            skews=tuple(drawn.choice([0, 0, -1, 1, -30, 30, 7_200]) for _ in range(PODS)),
            events=tuple(sorted((drawn.uniform(0.1, 1.8), kind) for kind in kinds)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: what was beyond the limits, and what was lost and how much might be.

    The loss is of the limit `used_up`, in its unit.
    """

    plan: Plan
    overshoot: int
    loss: int
    most_loss: int
    used_up: Limit
    billed: int
    killed: int
    dishonest: int

    def __str__(self) -> str:
        limits = ", ".join(
            f"{limit} {unit} a {period}" for (period, unit), limit in self.plan.limits.items()
        )
        return (
            f"seed {self.plan.seed}: {limits}; {self.plan.ends or 'nothing'} ends; billed "
            f"{self.billed} calls, {self.dishonest} with dishonest usage, overshoot "
            f"{self.overshoot}, lost {self.loss} of at most {self.most_loss} {self.used_up[1]} of "
            f"the {self.used_up[0]} with {self.killed} pods killed"
        )


@dataclass
class Call:
    """One request of a caller: when it began and ended, and its words."""

    began: float
    words: int
    ended: float = math.inf


@dataclass(frozen=True, slots=True)
class Billed:
    """A line of the provider's log: the tokens of a call, and those that its answer leads to.

    The second are a bound where the answer tells no usage that can be believed.
    """

    at: float
    tokens: int
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a run left behind.

    `counted` is by period the amounts of each by the store, `most_lost` the calls that the killed
    may have taken along, `hung_up` the calls whose callers left: they count as their bound.
    """

    billed: Sequence[Billed]
    calls: Sequence[Call]
    counted: Mapping[str, Sequence[Amounts]] = field(default_factory=dict)
    ended_at: float | None
    most_lost: int
    hung_up: int = 0
    killed: int


def judge(plan: Plan, seen: Seen) -> Outcome:
    """What came of a run, by the provider's log: the time and tokens of each call it billed.

    A call belongs to the periods it was reserved in, which the provider does not know. So until a
    period ends no more is billed than one has, in the end no more than two have, and afterwards no
    more than one and the calls that were under way then.
    """
    overs, losses = [0], []
    for (period, unit), limit in plan.limits.items():
        ends = math.inf
        if seen.ended_at is not None and plan.ends in (period, "month"):
            ends = seen.ended_at
        before = _sum([it.tokens for it in seen.billed if it.at < ends], unit)
        after = _sum([it.tokens for it in seen.billed if it.at >= ends], unit)
        either = _sum([it.words for it in seen.calls if it.began < ends < it.ended], unit)
        overs += [before - limit, before + after - 2 * limit, after - either - limit]
        overs += [getattr(it, unit) - limit for it in seen.counted.get(period, ())]
        counted = [it.counted for it in seen.billed if ends == math.inf or it.at >= ends]
        loss, most = limit - _sum(counted, unit), seen.most_lost
        if period == "month":
            most += seen.killed * (MONTH.grant_calls - DAY.grant_calls)
        if unit != "calls":
            # Each pod may be left with less than a call needs.
            most += PODS + seen.hung_up
        if len(plan.limits) > 1:
            # A pod that one limit stops may hold a grant of the other.
            most += PODS * MONTH.grant_calls
        losses.append((loss, most * getattr(amounts(MOST_TOKENS), unit), (period, unit)))
    loss, most, used_up = min(losses, key=lambda it: it[0] - it[1])
    return Outcome(
        plan=plan,
        overshoot=max(overs),
        loss=max(0, loss),
        most_loss=most,
        used_up=used_up,
        billed=len(seen.billed),
        killed=seen.killed,
        dishonest=sum(it.tokens != it.counted for it in seen.billed),
    )


def _sum(tokens: Sequence[int], unit: str) -> int:
    return sum(getattr(amounts(it), unit) for it in tokens)
