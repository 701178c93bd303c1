"""The calls for a batch: in a form that the provider accepts, and none without a waiting caller."""

import asyncio

import pytest

from tests.parts.world import World, ask, one, vectors


def test_refused_encoding_format_is_left_out_from_then_on():
    world = World(one("p", kind="OpenAICompatible"))
    p = world.net["p"]
    refusal = {"error": {"message": "unknown field encoding_format", "param": "encoding_format"}}

    def fault(answer):
        return (400, {}, refusal) if "encoding_format" in p.calls[-1].body else answer

    p.fault = fault
    answers = [world.embed("a"), world.embed("b")]
    assert [(it.vectors, it.attempts) for it in answers] == [
        (vectors("m", "a"), 2),
        (vectors("m", "b"), 1),
    ]
    assert ["encoding_format" in call.body for call in p.calls] == [True, False, False]
    assert world.quota.settled == [(False, 0), (True, 1), (True, 1)]


def test_batch_without_waiters_reserves_nothing():
    world = World(one("p", kind="Voyage"))
    world.net["p"].delay_seconds = 1
    many = [f"text {number}" for number in range(10_000)]
    with pytest.raises(TimeoutError):
        world.run(asyncio.wait_for(world.service.embed(ask(*many)), 0.5))
    world.loop.pass_time(100)
    assert len(world.quota.reserved) == len(world.net["p"].calls) < 10
