"""Real sidecars with calls at random: their connections to Redis, their claims and their draws."""

import asyncio
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx2
import redis

from embedding_contract import names, provider_terms
from embedding_sidecar.quota.claim_script import CLAIM
from embedding_sidecar.rate.window_script import DRAW
from tests.benchmarks import stage
from tests.scale.model.counting import LIMIT
from tests.scale.model.formulas import MODEL
from tests.scale.model.quantities import CALLED_A_SECOND, QUANTITIES
from tests.scale.model.served import Served, served

RATE: Final = provider_terms.Rate(requests_per_minute=LIMIT, tokens_per_minute=LIMIT)
CALLED_SECONDS: Final = 60.0
_SIZES: Final = QUANTITIES["connections"].sizes


def measure(folder: Path) -> dict[str, dict[int, float]]:
    """More and more sidecars, each of which sends every request to a provider.

    Their cache has a Redis of its own, which no claim and no draw goes to.
    """
    found: dict[str, dict[int, float]] = {"connections": {}, "claims": {}, "draws": {}}
    (folder / "stage").mkdir()
    with (
        served(folder / "cache", keeps=False) as cache,
        served(folder / "quota", keeps=True) as quota,
        stage.stage(folder / "stage") as on,
    ):
        made: list[stage.Server] = []
        for size in _SIZES:
            while len(made) < size:
                made.append(on.sidecar(cache_url=cache.url, quota_url=quota.url, rate=RATE))
            scripts = _scripts(quota, made)
            found["connections"][size] = _connections(cache, quota)
            found["claims"][size] = scripts[_digest(CLAIM)] / CALLED_SECONDS
            found["draws"][size] = scripts[_digest(DRAW)] / CALLED_SECONDS
    return found


def _scripts(quota: Served, made: Sequence[stage.Server]) -> Counter[str]:
    """Call these sidecars; the messages of it by the digest of their script."""
    found: Counter[str] = Counter()
    # A client of its own, as the other one's connection is not counted.
    with redis.Redis.from_url(quota.url) as client, client.monitor() as heard:
        asyncio.run(_call(made))
        quota.client.echo("the end")
        for it in heard.listen():
            command, *arguments = it["command"].split(" ", 2)
            if command.upper() == "ECHO":
                return found
            if command.upper() == "EVALSHA":
                found[arguments[0]] += 1
    raise AssertionError("Redis ended")


def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # as EVALSHA names it


def _connections(*there: Served) -> int:
    return sum(it.connections() for it in there)


async def _call(made: Sequence[stage.Server]) -> None:
    """Call each sidecar CALLED_A_SECOND times a second at random, with a new text each time."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        await asyncio.gather(*(_call_one(client, it) for it in made))


_NUMBERS: Final = itertools.count()


async def _call_one(client: httpx2.AsyncClient, sidecar: stage.Server) -> None:
    chance = random.Random(sidecar.port)
    url = f"http://127.0.0.1:{sidecar.port}{names.PATH_EMBEDDINGS}"
    loop = asyncio.get_running_loop()
    ends, at = loop.time() + CALLED_SECONDS, loop.time()
    while (at := at + chance.expovariate(CALLED_A_SECOND)) < ends:
        await asyncio.sleep(max(0.0, at - loop.time()))
        body = {"model": MODEL, "input": stage.text(next(_NUMBERS)), "encoding_format": "base64"}
        (await client.post(url, json=body)).raise_for_status()
