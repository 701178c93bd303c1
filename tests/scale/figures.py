"""The figures of a run: of each round, and of the bare client in the same round."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.scale.generator import Generator
from tests.scale.machine import MIB

HOUR_SECONDS: Final = 3600
LEASES: Final = " leases"
READS: Final = ("get ", "list ", "watch ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """All that one round gave, in seconds and bytes; requests by verb and resource.

    `bare_` is what a client gave that only lists the policies and applies the same objects.
    """

    load: float
    cold_seconds: float
    cold_processor_seconds: float
    cold_requests: Mapping[str, int]
    idle_seconds: float
    idle_processor_seconds: float
    idle_requests: Mapping[str, int]
    edit_seconds: tuple[float, ...]
    resident_bytes: int
    most_resident_bytes: int
    server_resident_bytes: int
    """Of the API server and etcd."""
    bare_cold_seconds: float
    bare_cold_requests: int
    bare_edit_seconds: tuple[float, ...]
    in_force_seconds: float | None = None
    """From an edit of every policy until all pods have all of it in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run of a generator."""

    generator: Generator
    machine: str
    cores: int
    date: str
    commit: str
    rounds: tuple[Round, ...]

    @property
    def is_busy(self) -> bool:
        """Whether a round began while more ran than there are cores for."""
        return any(it.load > self.cores for it in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a round; `ceiling` is the bare client's, `is_time` one in seconds."""

    title: str
    of: Callable[[Round, Generator], float | None]
    ceiling: Callable[[Round, Generator], float | None] = lambda *_: None
    is_time: bool = False
    digits: int = 1

    def values(self, result: Result) -> list[float]:
        """Its values in all rounds, in order of size; none where it is not measured."""
        found = (self.of(it, result.generator) for it in result.rounds)
        return sorted(it for it in found if it is not None)

    def ceilings(self, result: Result) -> list[float]:
        """The bare client's."""
        found = (self.ceiling(it, result.generator) for it in result.rounds)
        return sorted(it for it in found if it is not None)

    def shown(self, value: float) -> str:
        """A value as text."""
        return f"{value:,.{self.digits}f}"


def of_lease(requests: Mapping[str, int]) -> int:
    """The requests for the Lease."""
    return sum(it for what, it in requests.items() if what.endswith(LEASES))


def writes(requests: Mapping[str, int]) -> int:
    """The requests that change something, without the Lease's."""
    return sum(
        it
        for what, it in requests.items()
        if not what.startswith(READS) and not what.endswith(LEASES)
    )


def _an_hour(count: float, found: Round, generator: Generator) -> float:
    return count * HOUR_SECONDS / found.idle_seconds / generator.policies


def _quantile(values: tuple[float, ...], part: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


FIGURES: Final[Mapping[str, Figure]] = {
    "coldSeconds": Figure(
        title="cold start to all Ready, s",
        of=lambda it, _: it.cold_seconds,
        ceiling=lambda it, _: it.bare_cold_seconds,
        is_time=True,
    ),
    "coldToBare": Figure(
        title="cold start to the bare client's, times",
        of=lambda it, _: it.cold_seconds / it.bare_cold_seconds,
        digits=2,
    ),
    "coldRequestsOfPolicy": Figure(
        title="requests of a cold start, a policy",
        of=lambda it, made: sum(it.cold_requests.values()) / made.policies,
        ceiling=lambda it, made: it.bare_cold_requests / made.policies,
        digits=2,
    ),
    "coldProcessorMillisecondsOfPolicy": Figure(
        title="processor time of a cold start, ms a policy",
        of=lambda it, made: it.cold_processor_seconds * 1000 / made.policies,
        is_time=True,
    ),
    "idleRequestsOfPolicyHour": Figure(
        title="API requests a policy an hour, idle, without the Lease's",
        of=lambda it, made: _an_hour(
            sum(it.idle_requests.values()) - of_lease(it.idle_requests), it, made
        ),
        digits=2,
    ),
    "idleWrites": Figure(
        title="writes while idle, without the Lease's",
        of=lambda it, _: writes(it.idle_requests),
        digits=0,
    ),
    "idleLeaseRequestsHour": Figure(
        title="requests for the Lease, an hour",
        of=lambda it, _: of_lease(it.idle_requests) * HOUR_SECONDS / it.idle_seconds,
        digits=0,
    ),
    "idleCorePercent": Figure(
        title="processor time while idle, % of a core",
        of=lambda it, _: it.idle_processor_seconds * 100 / it.idle_seconds,
    ),
    "editP50Seconds": Figure(
        title="an edit to its ConfigMap, p50, s",
        of=lambda it, _: _quantile(it.edit_seconds, 0.5),
        ceiling=lambda it, _: _quantile(it.bare_edit_seconds, 0.5),
        is_time=True,
        digits=3,
    ),
    "editP99Seconds": Figure(
        title="an edit to its ConfigMap, p99, s",
        of=lambda it, _: _quantile(it.edit_seconds, 0.99),
        ceiling=lambda it, _: _quantile(it.bare_edit_seconds, 0.99),
        is_time=True,
        digits=3,
    ),
    "editP50ToBare": Figure(
        title="an edit, p50, to the bare client's, times",
        of=lambda it, _: _ratio(
            _quantile(it.edit_seconds, 0.5), _quantile(it.bare_edit_seconds, 0.5)
        ),
        digits=2,
    ),
    "residentMiB": Figure(
        title="memory of the operator (RSS), MiB",
        of=lambda it, _: it.resident_bytes / MIB,
        digits=0,
    ),
    "mostResidentMiB": Figure(
        title="the most of it, MiB",
        of=lambda it, _: it.most_resident_bytes / MIB,
        digits=0,
    ),
    "serverResidentMiB": Figure(
        title="memory of API server and etcd, MiB",
        of=lambda it, _: it.server_resident_bytes / MIB,
        digits=0,
    ),
    "inForceSeconds": Figure(
        title="an edit of all policies in force in all pods, s",
        of=lambda it, _: it.in_force_seconds,
        is_time=True,
    ),
}


def median(values: list[float]) -> float:
    """The one in the middle."""
    return statistics.median(values)
