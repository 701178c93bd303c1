"""What a sidecar takes of its pod: memory at rest and under load, and time to be ready."""

import time
from dataclasses import dataclass
from statistics import median

from tests.benchmarks import load
from tests.benchmarks.paths import CONNECTIONS, fresh, warm
from tests.benchmarks.stage import Stage, request, text

STARTS = 5
SHORT, LONG = 100_000, 1_000_000
_TEXTS = 2000
BATCH = 100
LARGEST = 2048
_BATCHES = 1000
_LARGEST_BATCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Memory in MB (2^20 bytes); `grown_mb` is None without the long run.

    `most_mb` is the most while CONNECTIONS callers asked for BATCH new texts each, with the cache
    full at what the chart gives it; `largest_mb` the same with LARGEST texts, kept in Redis too.
    """

    idle_anon_mb: float
    rss_after_short_mb: float
    grown_mb: float | None
    most_mb: float
    largest_mb: float
    ready_seconds: float


def measure(stage: Stage, *, long: bool) -> Footprint:
    """Measure all of it."""
    starts = []
    for _ in range(STARTS):
        started = time.perf_counter()
        stage.sidecar()
        starts.append(time.perf_counter() - started)
    cache, counted = stage.redis(keeps=False), stage.redis(keeps=True)
    server = stage.sidecar(memory_max_bytes=2**25, cache_url=cache.url, quota_url=counted.url)
    warm(server, fresh("idle", 20)(0))
    time.sleep(2)
    idle = server.memory("RssAnon")
    # More texts than memory has room for would hide growth behind a cache that fills.
    known = [request(text(number)) for number in range(_TEXTS)]
    warm(server, known)
    load.run(server.port, known, connections=CONNECTIONS, count=SHORT)
    short = server.memory("VmRSS")
    grown = None
    if long:
        load.run(server.port, known, connections=CONNECTIONS, count=LONG - SHORT)
        grown = server.memory("VmRSS") - short
    busy = stage.sidecar(memory_max_bytes=2**25)
    warm(busy, _new(_BATCHES, of=BATCH))
    busiest = stage.sidecar(memory_max_bytes=2**25, cache_url=cache.url)
    warm(busiest, _new(_LARGEST_BATCHES, of=LARGEST))
    return Footprint(
        idle_anon_mb=idle,
        rss_after_short_mb=short,
        grown_mb=grown,
        most_mb=busy.memory("VmHWM"),
        largest_mb=busiest.memory("VmHWM"),
        ready_seconds=median(starts),
    )


def _new(batches: int, *, of: int) -> list[bytes]:
    """Batches of so many texts, none of them twice."""
    return [
        request(*(text(f"{of}-{number}-{at}") for at in range(of))) for number in range(batches)
    ]
