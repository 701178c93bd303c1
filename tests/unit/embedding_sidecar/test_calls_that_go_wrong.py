"""Calls whose steps fail in ways that no provider causes: each request is answered all the same."""

import asyncio

import pytest

from embedding_sidecar import errors
from tests.fakes import provider as stand_in
from tests.parts.world import World, ask, one


def test_request_is_answered_where_metrics_fail():
    world = World(one("a"))

    def broken(**_):
        raise RuntimeError("no metrics")

    world.seen.call = broken
    faults = []
    world.loop.set_exception_handler(lambda _, context: faults.append(context))

    async def asked():
        async with asyncio.timeout(1000):
            await world.service.embed(ask("x"))

    with pytest.raises(RuntimeError, match="no metrics"):
        world.run(asked())
    # The next one is not bound to a call that never ends.
    del world.seen.call
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
    draw, world.quota.draw = world.quota.draw, None  # calling it is a TypeError
    world.loop.set_exception_handler(lambda *_: None)
    with pytest.raises(TypeError):
        world.embed(*texts)
    world.quota.draw = draw
    assert world.embed(*texts).items == len(texts)
