"""The faults of a campaign as data, drawn from a seed: one at a time, or two that overlap."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

KILLED: Final = "killed"
STOPPED: Final = "stopped"
CUT: Final = "cut"
SLOWED: Final = "slowed"
OF_A_PROCESS: Final = (KILLED, STOPPED, CUT, SLOWED)
OF_A_NETWORK: Final = (CUT, SLOWED)

SHORTEST_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 1.0
_LANES: Final = 2
_ALONE: Final = 0.4
"""The share of faults that begin once no other one is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one target; times are in seconds since the campaign began."""

    target: str
    kind: str
    begins_at: float
    ends_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A fault begins, or ends."""

    at: float
    fault: Fault
    begins: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All faults of a campaign, in the order in which they begin."""

    seed: int
    faults: tuple[Fault, ...]

    def steps(self) -> list[Step]:
        """The beginnings and ends in order; nothing of a target begins before its last fault ended.

        Ends come first where times are equal.
        """
        steps = [Step(at=it.begins_at, fault=it, begins=True) for it in self.faults]
        steps += [Step(at=it.ends_at, fault=it, begins=False) for it in self.faults]
        return sorted(steps, key=lambda it: (it.at, it.begins))


def draw(
    seed: int,
    targets: Mapping[str, Sequence[str]],
    *,
    seconds: float,
    longest_seconds: float,
) -> Plan:
    """A plan that ends within `seconds`, over the kinds of faults of each target.

    Each pair of target and kind comes once before any comes again.
    """
    chance = random.Random(seed)
    pairs = _shuffled(chance, [(name, kind) for name, kinds in targets.items() for kind in kinds])
    free_at = [0.0] * _LANES
    ended_at = dict.fromkeys(targets, 0.0)
    faults: list[Fault] = []
    for target, kind in pairs:
        lane = free_at.index(min(free_at))
        earliest = max(free_at) if chance.random() < _ALONE else free_at[lane]
        begins_at = max(earliest, ended_at[target]) + chance.uniform(0.0, LONGEST_PAUSE_SECONDS)
        ends_at = begins_at + chance.uniform(SHORTEST_SECONDS, longest_seconds)
        if ends_at > seconds:
            break
        free_at[lane] = ended_at[target] = ends_at
        faults.append(Fault(target=target, kind=kind, begins_at=begins_at, ends_at=ends_at))
    return Plan(seed=seed, faults=tuple(sorted(faults, key=lambda it: it.begins_at)))


def _shuffled(chance: random.Random, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    while True:
        yield from chance.sample(pairs, len(pairs))
