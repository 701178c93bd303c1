"""The Redis that counts: claims and draws of many sidecars, by the sidecar's own code."""

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from embedding_contract import document
from embedding_sidecar.quota import quota, quota_store
from embedding_sidecar.quota.claims import Amounts, LeaseClaim, LeaseReply, Limits
from embedding_sidecar.quota.leases import Ledger
from embedding_sidecar.quota.periods import DAY, DAY_SECONDS
from embedding_sidecar.rate import window, window_store
from embedding_sidecar.redis_client import redis_url
from tests.fakes.quota_store import FakeStore
from tests.parts import callbacks, virtual_time
from tests.scale.model.formulas import HOUR_SECONDS
from tests.scale.model.quantities import QUANTITIES
from tests.scale.model.served import Served, answered, served

LIMIT: Final = 10**9
CALL: Final = Amounts(1, 100)
CALLS: Final = 2_000
CLAIMS: Final = 4_000
CLAIMING: Final = 32
"""Connections with a claim or a draw under way."""


def measure(folder: Path) -> dict[str, dict[int, float]]:
    """All quantities of the Redis that counts."""
    with served(folder / "counting", keeps=True) as there:
        return {
            "claimsOfCall": {it: claims_of_call(it) for it in _sizes("claimsOfCall")},
            "claimMicroseconds": _each(there, "claimMicroseconds", _claim_microseconds),
            "messageMicroseconds": _each(there, "messageMicroseconds", _message_microseconds),
        }


def _sizes(name: str) -> tuple[int, ...]:
    return QUANTITIES[name].sizes


def _each(
    there: Served, name: str, measured: Callable[[Served, int], Awaitable[float]]
) -> dict[int, float]:
    async def run(size: int) -> float:
        return await measured(there, size)

    found = {}
    for size in _sizes(name):
        there.client.flushall()
        found[size] = asyncio.run(run(size))
    return found


class _Counted(FakeStore):
    """A store in memory that counts claims."""

    claims = 0

    async def claim(self, claim: LeaseClaim) -> LeaseReply:
        self.claims += 1
        return await super().claim(claim)


def claims_of_call(calls_an_hour: int, *, calls: int = CALLS) -> float:
    """Claims for each of a pod's calls, which come at random, on a clock of its own."""
    loop = virtual_time.Loop()
    noon = 20_000.5 * DAY_SECONDS
    chance = random.Random(calls_an_hour)

    def now() -> float:
        return noon + loop.time()

    async def run() -> float:
        store = _Counted(now)
        asked = quota.Quota(
            limits=document.Quota(daily_requests=LIMIT),
            scope="shop/search",
            store=store,
            clock=loop.time,
            wall_clock=now,
        )
        for _ in range(calls):
            await asyncio.sleep(chance.expovariate(calls_an_hour / HOUR_SECONDS))
            asked.settle(await callbacks.draw(asked, tokens=1), billed=True, tokens=1)
        claims = store.claims
        await asked.close()
        return claims / calls

    return loop.run_until_complete(run())


class _Pod:
    """A pod that spends a lease as soon as it has it."""

    def __init__(self, policy: str) -> None:
        lease = secrets.token_hex(8)
        self._ledger = Ledger(scope=policy, period=DAY, lease=lease, background=False)
        self._ledger.limit(Limits(LIMIT))

    async def claim(self, store: quota_store.RedisStore) -> None:
        ledger = self._ledger
        claim = ledger.claim(CALL, ahead=DAY.grant_calls, now=0.0)
        ledger.enter(await store.claim(claim), claim=claim, asked_at=0.0)
        while ledger.has(CALL, now=0.0):
            ledger.settle(ledger.spend(CALL), cost=CALL)


async def _claim_microseconds(there: Served, leases: int) -> float:
    """Of a claim in policies of so many pods, each with a lease."""
    policies = -(-CLAIMING // leases)
    pods = [_Pod(f"shop/policy-{at}") for at in range(policies) for _ in range(leases)]
    async with AsyncExitStack() as ends:
        stores = [quota_store.RedisStore(redis_url.connect(there.url)) for _ in range(CLAIMING)]
        for store in stores:
            ends.push_async_callback(store.close)
        for at in range(0, len(pods), CLAIMING):
            first = zip(pods[at : at + CLAIMING], stores, strict=False)
            await asyncio.gather(*(answered(partial(pod.claim, store)) for pod, store in first))
        asks = [
            _in_turn(itertools.cycle(pods[at::CLAIMING]), store) for at, store in enumerate(stores)
        ]
        return await there.microseconds(asks, count=CLAIMS)


def _in_turn(pods: Iterator[_Pod], store: quota_store.RedisStore) -> Callable[[], Awaitable[None]]:
    return lambda: next(pods).claim(store)


async def _message_microseconds(there: Served, pods: int) -> float:
    """Of a draw from windows that so many pods drew from in the last minute."""
    keys = [window.key(f"shop/policy-{at}", "main") for at in range(-(-CLAIMING // pods))]
    for key in keys:
        there.client.hset(key, mapping=_minute(pods))
    terms = window.Terms(calls=LIMIT, tokens=LIMIT)
    sequences = itertools.count(2)
    names = itertools.cycle([(key, f"{pod:016x}") for key in keys for pod in range(pods)])

    def drawing(store: window_store.RedisWindows) -> Callable[[], Awaitable[object]]:
        def draw() -> Awaitable[object]:
            key, pod = next(names)
            needs = [window.Need(CALL.tokens)]
            return store.draw(window.Message(key, pod, next(sequences), terms, needs, {}))

        return draw

    async with AsyncExitStack() as ends:
        stores = [window_store.RedisWindows(redis_url.connect(there.url)) for _ in range(CLAIMING)]
        for store in stores:
            ends.push_async_callback(store.close)
        return await there.microseconds(list(map(drawing, stores)), count=CLAIMS)


def _minute(pods: int) -> dict[Any, str]:
    """The fields of a window in which each pod drew in the last minute (`window_script`)."""
    now_ms = int(time.time() * 1000)
    current = now_ms // window.BUCKET_MS
    buckets = window.WINDOW_MS // window.BUCKET_MS
    return {f"by:{pod:016x}": f"1 {now_ms} 1 1 1 0" for pod in range(pods)} | {
        str(current - at): "1 100" for at in range(buckets)
    }
