"""The model of many pods beside a real Redis, where that needs no quiet machine: bytes of items."""

import asyncio

import pytest

from tests.scale.model import caching, formulas
from tests.scale.model.quantities import QUANTITIES
from tests.scale.model.served import served

pytestmark = pytest.mark.integration


def test_item_takes_bytes_that_model_says(tmp_path, say):
    with served(tmp_path / "redis", keeps=False) as there:
        found = asyncio.run(caching.vectors(there, items=1_000))
    for dimensions in QUANTITIES["vectorBytes"].checks:
        measured = found[dimensions]
        model = formulas.item_bytes({"vectorBytes": found}, dimensions)
        say(f"an item of {dimensions} numbers: {measured:.0f} bytes, {model:.0f} by the model")
        assert abs(model / measured - 1) < 0.02
