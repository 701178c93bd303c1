"""Calls that fail in ways that no provider causes: each request is answered nevertheless."""

import asyncio
import gc
from unittest import mock

import pytest

from embedding_sidecar import errors
from embedding_sidecar.engine import batch_calls, portions
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


def test_refused_text_teaches_no_length_if_longer_one_passed():
    world = World(one("a", kind="OpenAICompatible"))
    long_text, refused = "long " * 2000, "refused " * 100
    host = world.net["a"]

    def fault(answer):
        asked = host.calls[-1].body["input"]
        return stand_in.status(400)(answer) if refused in asked else answer

    host.fault = fault
    world.refusal(long_text, refused)
    host.fault = None
    before = len(host.calls)
    world.embed(*(f"{it} " * 1000 for it in "pqr"))
    assert len(host.calls) == before + 1


def test_batch_that_fails_leaves_no_cycle():
    world = World(one("a", kind="OpenAICompatible"))
    host = world.net["a"]

    def fault(answer):
        if len(host.calls[-1].body["input"]) > 2:
            return stand_in.status(413)(answer)
        return stand_in.status(401)(answer)

    host.fault = fault
    gc.collect()
    gc.disable()
    try:
        world.refusal(*"abcdefgh")
        objects = gc.get_objects()
        left = [it for it in objects if isinstance(it, batch_calls.Batch | portions.BatchRequest)]
        assert left == []
    finally:
        gc.enable()
