"""The hit and miss paths, each as a ratio to the ceiling of the same round."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks import load, vendor
from tests.benchmarks.stage import Server, Stage, request, text

TEXTS = 2000
CONNECTIONS = 32
ROUNDS = 3
ALONE, ROUNDS_ALONE = 300, 9
"""Requests one at a time, and how often: what else a machine does shows in them most."""
CEILING = "ceiling: bare ASGI"
PROVIDER = "the provider itself"

Requests = Callable[[int], Sequence[bytes]]


@dataclass(slots=True, kw_only=True)
class Path:
    """One row: who is asked what, what we aim for, and what was found in each round.

    `aim` is of the ceiling's requests a second; `aim_added_ms` is what one request alone takes
    more than the provider itself.
    """

    name: str
    server: Server
    requests: Requests
    count: int
    aim: float | None = None
    aim_added_ms: float | None = None
    rounds: list[load.Measured] = field(default_factory=list)
    cpu_microseconds: list[float] = field(default_factory=list)
    alone: list[load.Measured] = field(default_factory=list)

    def per_second(self) -> float:
        """Requests a second in the middle of all rounds."""
        return median(it.requests_per_second for it in self.rounds)

    def ratios(self, ceiling: "Path") -> list[float]:
        """Of the ceiling's requests a second, in each round, sorted."""
        pairs = zip(self.rounds, ceiling.rounds, strict=True)
        return sorted(it.requests_per_second / top.requests_per_second for it, top in pairs)

    def added_ms(self, provider: "Path") -> list[float]:
        """What one request alone takes more than the provider itself, in each round, sorted."""
        pairs = zip(self.alone, provider.alone, strict=True)
        return sorted((it.median_seconds - own.median_seconds) * 1000 for it, own in pairs)


def measure(stage: Stage, *, rounds: int = ROUNDS) -> list[Path]:
    """All paths in turn, `rounds` times; the ceiling is the first one."""
    ways = paths(stage)
    for number in range(rounds):
        for way in ways:
            before = way.server.cpu_seconds()
            way.rounds.append(
                load.run(
                    way.server.port,
                    way.requests(number),
                    connections=CONNECTIONS,
                    count=way.count,
                )
            )
            way.cpu_microseconds.append((way.server.cpu_seconds() - before) / way.count * 1e6)
    singles = [
        (way, way.requests(rounds))
        for way in ways
        if way.name == PROVIDER or way.aim_added_ms is not None
    ]
    for number in range(ROUNDS_ALONE):
        for way, requests in singles:
            asked = requests[number * ALONE :][:ALONE]
            way.alone.append(load.run(way.server.port, asked, connections=1, count=len(asked)))
    return ways


def paths(stage: Stage) -> list[Path]:
    """What is measured."""
    known = [request(text(number)) for number in range(TEXTS)]
    in_memory = stage.sidecar()
    warm(in_memory, known)
    cache, counted = stage.redis(keeps=False), stage.redis(keeps=True)
    in_redis = stage.sidecar(memory_max_bytes=0, cache_url=cache.url)
    warm(in_redis, known)
    alone = stage.sidecar()
    full = stage.sidecar(cache_url=cache.url, quota_url=counted.url)
    ceiling = stage.bare(answer_bytes=len(vendor.answer(1, vendor.DIMENSIONS, "base64")))
    return [
        Path(name=CEILING, server=ceiling, requests=lambda _: known, count=30_000),
        Path(
            name="hit from memory",
            server=in_memory,
            requests=lambda _: known,
            count=30_000,
            aim=0.80,
        ),
        Path(
            name="hit from memory, no body twice",
            server=in_memory,
            requests=lambda number: unlike(number, 8000),
            count=8000,
        ),
        Path(
            name="hit from memory, no head twice",
            server=in_memory,
            requests=lambda number: traced(known, number, 8000),
            count=8000,
        ),
        Path(
            name="hit from Redis",
            server=in_redis,
            requests=lambda _: known,
            count=15_000,
            aim=0.50,
        ),
        Path(
            name="miss, memory only",
            server=alone,
            requests=fresh("alone", 9000),
            count=9000,
            aim=0.20,
            aim_added_ms=0.3,
        ),
        Path(
            name="miss, Redis and quota",
            server=full,
            requests=fresh("full", 6000),
            count=6000,
            aim=0.12,
            aim_added_ms=0.8,
        ),
        Path(name=PROVIDER, server=stage.vendor, requests=fresh("direct", 5000), count=5000),
    ]


def warm(server: Server, requests: Sequence[bytes]) -> None:
    """Ask everything once."""
    load.run(server.port, requests, connections=CONNECTIONS, count=len(requests))


def fresh(name: str, count: int) -> Requests:
    """Requests for texts nobody has asked for, other ones in each round."""
    return lambda number: [request(text(f"{name}-{number}-{at}")) for at in range(count)]


def traced(requests: Sequence[bytes], number: int, count: int) -> list[bytes]:
    """Requests, each with a header that no other one has."""
    return [
        load.with_headers(request, [f"traceparent: 00-{number:016x}{at:016x}-{at:016x}-01"])
        for at, request in enumerate(itertools.islice(itertools.cycle(requests), count))
    ]


def unlike(number: int, count: int) -> list[bytes]:
    """Requests for known texts, of which no two are the same bytes."""
    texts = itertools.islice(itertools.cycle(range(TEXTS)), count)
    return [request(text(of), user=f"user-{number}-{at}") for at, of in enumerate(texts)]
