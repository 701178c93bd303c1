"""Calls whose steps fail in ways that no provider causes: each request is answered all the same."""

import asyncio
from unittest import mock

import pytest

from embedding_sidecar import errors
from tests.fakes import provider as stand_in
from tests.parts.world import World, ask, one


def test_request_is_answered_where_metrics_fail():
    world = World(one("a"))

    def broken(**_):
        raise RuntimeError("no metrics")

    world.loop.set_exception_handler(lambda *_: None)

    async def asked():
        async with asyncio.timeout(1000):
            await world.service.embed(ask("x"))

    with mock.patch.object(world.seen, "call", broken), pytest.raises(RuntimeError, match="no met"):
        world.run(asked())
    # The next one is not bound to a call that never ends.
    assert world.embed("x").attempts == 1


@pytest.mark.parametrize("texts", [("x",), ("x", "y")])
def test_probe_that_fails_unforeseen_is_over(texts):
    world = World(one("a"))
    world.net["a"].fault = stand_in.status(503, {"retry-after": "1"})
    for text in "pqr":
        with pytest.raises(errors.Refused):
            world.embed(text)
    world.run(asyncio.sleep(100))
    world.net["a"].fault = None
    world.loop.set_exception_handler(lambda *_: None)
    # Calling it is a TypeError.
    with mock.patch.object(world.quota, "draw", None), pytest.raises(TypeError):
        world.embed(*texts)
    assert world.embed(*texts).items == len(texts)
