"""Batches: what a mixed one costs the stores, and the cost of an item by batch and vector size."""

from dataclasses import dataclass

from tests.benchmarks import load
from tests.benchmarks.paths import warm
from tests.benchmarks.stage import Stage, request, text

ITEMS = 100
CACHED = 90
BATCHES = 60
SIZES = (1, 4, 16, 64, 256, 1024, 2048)
DIMENSIONS = (256, 512, 1024, 1536, 3072)
_ITEMS_A_SIZE = 20_000
_CONNECTIONS = 4
READS = ("get", "mget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Batches of ITEMS of which CACHED are in Redis and not in memory.

    Reads, calls and bought items are for each batch.
    """

    items_per_second: float
    redis_reads: float
    calls: float
    bought: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Hits from memory: microseconds for each item, over batch size or vector size."""

    batch: int
    dimensions: int
    microseconds: float


def mixed(stage: Stage) -> Mixed:
    """What mixed batches cost."""
    cache = stage.redis(keeps=False)
    server = stage.sidecar(memory_max_bytes=0, cache_url=cache.url)
    known = [text(f"mixed-{at}") for at in range(CACHED)]
    warm(server, [request(*known)])
    batches = [
        request(*known, *(text(f"new-{batch}-{at}") for at in range(ITEMS - CACHED)))
        for batch in range(BATCHES)
    ]
    (calls, items), reads = stage.vendor_counts(), cache.calls(*READS)
    measured = load.run(server.port, batches, connections=1, count=BATCHES)
    reads, (calls_after, items_after) = cache.calls(*READS) - reads, stage.vendor_counts()
    return Mixed(
        items_per_second=measured.requests_per_second * ITEMS,
        redis_reads=reads / BATCHES,
        calls=(calls_after - calls) / BATCHES,
        bought=(items_after - items) / BATCHES,
    )


def costs(stage: Stage) -> list[Cost]:
    """The cost of an item, over batch sizes and then over vector sizes."""
    server = stage.sidecar(memory_max_bytes=2**28)
    shapes = [(size, 1536) for size in SIZES] + [(1, size) for size in DIMENSIONS]
    return [_cost(server.port, batch, dimensions) for batch, dimensions in shapes]


def _cost(port: int, batch: int, dimensions: int) -> Cost:
    several = max(1, 2048 // batch)
    requests = [
        request(*(text(f"{of}-{at}") for at in range(batch)), dimensions=dimensions)
        for of in range(several)
    ]
    load.run(port, requests, connections=1, count=several)
    count = max(20, _ITEMS_A_SIZE // batch)
    measured = load.run(port, requests, connections=_CONNECTIONS, count=count)
    return Cost(
        batch=batch,
        dimensions=dimensions,
        microseconds=1e6 / measured.requests_per_second / batch,
    )
