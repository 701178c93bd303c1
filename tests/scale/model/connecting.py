"""The connections of real sidecars to one Redis that holds their cache and counts."""

import time
from pathlib import Path
from typing import Final

import httpx2

from embedding_contract import names, provider_terms
from tests.benchmarks import stage
from tests.scale.model.counting import LIMIT
from tests.scale.model.formulas import MODEL
from tests.scale.model.quantities import QUANTITIES
from tests.scale.model.served import served

RATE: Final = provider_terms.Rate(requests_per_minute=LIMIT)
SETTLE_SECONDS: Final = 2.0
"""Twice the interval of the looks at the generations, which have a connection of their own."""


def measure(folder: Path) -> dict[str, dict[int, float]]:
    """Connections of more and more sidecars, each of which has answered a request."""
    sizes = QUANTITIES["connections"].sizes
    found: dict[int, float] = {}
    (folder / "stage").mkdir()
    with served(folder / "connecting", keeps=True) as there, stage.stage(folder / "stage") as on:
        for number in range(1, max(sizes) + 1):
            _ask(on.sidecar(cache_url=there.url, quota_url=there.url, rate=RATE))
            if number in sizes:
                time.sleep(SETTLE_SECONDS)
                found[number] = there.connections()
    return {"connections": found}


def _ask(sidecar: stage.Server) -> None:
    url = f"http://127.0.0.1:{sidecar.port}{names.PATH_EMBEDDINGS}"
    body = {"model": MODEL, "input": "a text", "encoding_format": "base64"}
    httpx2.post(url, json=body, trust_env=False).raise_for_status()
