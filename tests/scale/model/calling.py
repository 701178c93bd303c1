"""Real sidecars with calls at random: their connections to Redis, their claims and their draws."""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Final

import httpx2

from embedding_contract import names, provider_terms
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

    Their cache has a Redis of its own, so that the other one tells claims and draws apart: of the
    two scripts only a claim's calls HMGET.
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
            claims, scripts = quota.commands("hmget"), quota.commands("evalsha")
            asyncio.run(_call(made))
            claims, scripts = quota.commands("hmget") - claims, quota.commands("evalsha") - scripts
            found["connections"][size] = _connections(cache, quota)
            found["claims"][size] = claims / CALLED_SECONDS
            found["draws"][size] = (scripts - claims) / CALLED_SECONDS
    return found


def _connections(*there: Served) -> int:
    return sum(it.connections() for it in there)


async def _call(made: list[stage.Server]) -> None:
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
