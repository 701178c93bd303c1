"""The engine's own cost of a miss: from the request to the provider's client, and back.

    python -m tests.benchmarks.misses

In one process: a provider that answers at once, a cache in memory, and a day without a store; or
all limits of day and month beside the day's calls alone, both counted in a real Redis. What is
printed is CPU time, so it may be compared on a machine that does other things too.
"""

import asyncio
import base64
import dataclasses
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import orjson
import uvloop
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from embedding_contract import document, money
from embedding_sidecar.cache import generations, memory_cache, tiered_cache
from embedding_sidecar.engine import inflight
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.engine.provider_states import ApiKey
from embedding_sidecar.engine.request_state import Found
from embedding_sidecar.engine.service import Service
from embedding_sidecar.quota import counter, prices, quota, quota_store
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.telemetry.otel import spans
from embedding_sidecar.translation import provider_api
from tests.parts import sidecar, upstreams

DIMENSIONS = 1536
MISSES = 5_000
ROUNDS = 5
TTL_SECONDS = 3600
MODEL = "text-embedding-3-small"
POLICY = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=tuple(
        document.Provider(
            name=name,
            kind="OpenAI",
            model=MODEL,
            base_url=f"http://{name}/v1",
            api_key_file=f"provider-{name}",
            price_per_million_tokens="0.02",
        )
        for name in ("first", "second")
    ),
    quota=document.Quota(daily_requests=10**12),
)
_VECTOR = struct.pack(f"<{DIMENSIONS}f", *(number / DIMENSIONS for number in range(DIMENSIONS)))
_ITEM = {"object": "embedding", "index": 0, "embedding": base64.b64encode(_VECTOR).decode()}
ANSWER = provider_api.HttpAnswer(
    status=200,
    lines=(),
    body=orjson.dumps({"object": "list", "data": [_ITEM], "usage": {"total_tokens": 8}}),
)


class AtOnce:
    """Answers in the next turn of the loop."""

    def start(
        self,
        request: provider_api.HttpRequest,
        *,
        within_seconds: float,
        done: Callable[[provider_api.HttpAnswer | Exception], None],
    ) -> Callable[[], None]:
        """The same answer to everybody."""
        del within_seconds
        answer = upstreams.carried(ANSWER, request)
        return asyncio.get_running_loop().call_soon(done, answer).cancel


LARGE = 10**12
ALL_LIMITS = document.Quota(
    daily_requests=LARGE,
    daily_tokens=LARGE,
    daily_cost=money.MAX_NANOS,
    monthly_requests=LARGE,
    monthly_tokens=LARGE,
    monthly_cost=money.MAX_NANOS,
)


def _world(
    limits: document.Quota = POLICY.quota, store: counter.Store | None = None
) -> tuple[Service, tiered_cache.TieredCache]:
    policy = dataclasses.replace(POLICY, quota=limits)
    metrics = Metrics()
    memory = memory_cache.MemoryCache(max_bytes=2**25, ttl_seconds=TTL_SECONDS)
    cached = tiered_cache.TieredCache(
        scope=POLICY.cache_scope,
        ttl_seconds=TTL_SECONDS,
        memory=memory,
        store=None,
        generations=generations.Generations(store=None, forget=memory.forget),
        observe=metrics,
    )
    service = Service(
        document=policy,
        caller=Caller(
            keys={it.name: ApiKey(current="sk-benchmark") for it in POLICY.providers},
            cache=cached,
            quota=quota.Quota(limits=limits, scope=POLICY.scope, store=store),
            prices=prices.of(policy),
            upstream=AtOnce(),
            observe=metrics,
            registry=inflight.InflightCalls(clock=time.monotonic),
        ),
    )
    return service, cached


Way = Callable[[Service, provider_api.Ask, Found], Awaitable[object]]


async def _microseconds(way: Way) -> float:
    """CPU time of one miss, the best of several rounds; looking it up in the cache left out."""
    world = _world()
    return min([await _round(world, way, turn) for turn in range(ROUNDS)])


async def _round(world: tuple[Service, tiered_cache.TieredCache], way: Way, turn: int) -> float:
    service, cached = world
    space = POLICY.providers[0].space()
    texts = (f"text {number} of turn {turn}, which is new" for number in range(MISSES))
    asks = [provider_api.Ask(model=MODEL, items=(text,)) for text in texts]
    wanted = [(ask, Found(cached.keys(ask, space=space), [None], time.monotonic())) for ask in asks]
    started = time.process_time()
    for ask, found in wanted:
        await way(service, ask, found)
    return (time.process_time() - started) / MISSES * 1e6


async def _of_limits() -> tuple[float, float]:
    """CPU time of one miss with the day's limit of calls, and with all limits, in real Redis."""
    with tempfile.TemporaryDirectory() as folder:
        server = sidecar.Redis(Path(folder))
        store = quota_store.RedisStore(redis_url.connect(server.url))
        try:
            worlds = [_world(it, store) for it in (POLICY.quota, ALL_LIMITS)]
            # In turns, so that both meet the same machine.
            turns = [
                [await _round(it, _embedded, turn) for it in worlds] for turn in range(2 * ROUNDS)
            ]
            return min(it[0] for it in turns), min(it[1] for it in turns)
        finally:
            await store.close()
            server.kill()


async def _embedded(service: Service, ask: provider_api.Ask, found: Found) -> None:
    await asyncio.create_task(service.embed(ask, found=found))


def _traced(tracer: spans.Tracer) -> Way:
    async def way(service: Service, ask: provider_api.Ask, found: Found) -> None:
        span = tracer.request(traceparent=None, tracestate=None)
        said = await asyncio.create_task(service.embed(ask, found=found, span=span))
        span.answered(
            provider="openai",
            model=said.model,
            dimensions=DIMENSIONS,
            tokens=said.tokens,
            hits=said.hits,
            items=said.items,
        )

    return way


def _tracer(root_ratio: float) -> spans.Tracer:
    """As the program's, but for the network: spans are encoded and thrown away."""
    return spans.Tracer(
        spans=BatchSpanProcessor(Encoding()),
        resource=Resource.create(),
        root_ratio=root_ratio,
    )


class Encoding(SpanExporter):
    """Does what the exporter does before it sends."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode them."""
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


async def _main() -> None:
    """Print each way."""
    usual, every = _tracer(spans.ROOT_RATIO), _tracer(1.0)
    for name, way in (
        ("a miss", _embedded),
        ("likewise, traced with the default share", _traced(usual)),
        ("likewise, every request sampled", _traced(every)),
    ):
        print(f"{name}: {await _microseconds(way):.1f} us")
    day, everything = await _of_limits()
    print(f"a miss that Redis counts, with a limit on calls a day: {day:.1f} us")
    print(
        f"likewise, with limits on calls, tokens and money a day and a month: {everything:.1f} us "
        f"({everything / day - 1:+.1%})"
    )


if __name__ == "__main__":
    uvloop.run(_main())
