"""The class of a request at the quota: each of its calls counts in it, on every path."""

import asyncio

import pytest

from embedding_sidecar import errors
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.provider_states import ApiKey
from embedding_sidecar.engine.request_state import Found
from tests.fakes import provider as stand_in
from tests.parts.world import Quota, World, ask, one, vectors

DOWN = errors.Unreachable("no_connection", billed=False)


def embed(world, *items, background=True):
    return world.run(world.service.embed(ask(*items), background=background))


def begin(world, item, *, background):
    """The answer of a request for which the cache has just been asked."""
    provider = world.document.providers[0]
    keys = world.cache.keys(ask(item), space=provider.space())
    found = Found(keys, [None], world.loop.time())
    return asyncio.ensure_future(world.service.embed(ask(item), found=found, background=background))


def fails_once(host, fault):
    def first_only(answer):
        host.fault = None
        return fault(answer)

    host.fault = first_only


@pytest.mark.parametrize("background", [True, False])
def test_call_is_of_its_request_s_class(background):
    world = World(one("p"))
    embed(world, "a", "b", background=background)

    async def without_a_task():
        return await begin(world, "c", background=background)

    world.run(without_a_task())
    assert world.quota.of_background == [background] * 2


def test_retry_keeps_class():
    world = World(one("p"))
    fails_once(world.net["p"], stand_in.status(500))
    assert embed(world, "a").attempts == 2
    assert world.quota.of_background == [True, True]


def test_retry_of_request_without_task_keeps_class():
    world = World(one("p"))
    fails_once(world.net["p"], stand_in.status(500))

    async def run():
        return await begin(world, "a", background=True)

    assert world.run(run()).attempts == 2
    assert world.quota.of_background == [True, True]


def test_another_provider_is_asked_in_same_class():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = DOWN
    assert embed(world, "a").provider == "q"
    assert set(world.quota.of_background) == {True}
    assert len(world.quota.of_background) == 2


def test_parts_and_halves_keep_class():
    world = World(one("p", kind="OpenAICompatible"))
    p = world.net["p"]

    def fault(answer):
        return stand_in.status(413)(answer) if len(p.calls[-1].body["input"]) > 3 else answer

    p.fault = fault
    assert embed(world, *(f"{number}" for number in range(10))).attempts == 6
    assert embed(world, *(f"new {number}" for number in range(7))).attempts == 3
    assert world.quota.of_background == [True] * 9


def test_key_before_is_tried_in_same_class():
    key = ApiKey(current="sk-wrong", previous=stand_in.KEY, previous_until=1000.0)
    world = World(one("p"), keys={"p": key})
    embed(world, "a")
    assert world.quota.of_background == [True, True]


def test_hit_is_free_for_background_work_too():
    world = World(one("p"), quota=Quota(left=11, kept=10))
    embed(world, "a")
    assert embed(world, "a").hits == 1
    with pytest.raises(errors.QuotaReserved) as refused:
        embed(world, "b")
    assert (refused.value.code, refused.value.attempts) == ("quota_reserved_for_applications", 0)
    assert embed(world, "b", background=False).attempts == 1


class Waits(Quota):
    """Those who draw wait until they may go on."""

    def __init__(self, **more):
        super().__init__(**more)
        self.may_go = asyncio.Event()
        self.is_waiting = asyncio.Event()

    def draw(self, *, tokens, done, background=False, price=0):
        draw = super().draw

        async def later():
            self.is_waiting.set()
            await self.may_go.wait()
            draw(tokens=tokens, done=done, background=True, price=price)

        if not background:
            return draw(tokens=tokens, done=done, price=price)
        return asyncio.ensure_future(later()).cancel


@pytest.mark.parametrize("first", ["not looked up", "looked up"])
@pytest.mark.parametrize("second", ["not looked up", "looked up"])
def test_application_that_joins_background_work_is_not_refused_with_it(first, second):
    quota = Waits(left=10, kept=10)
    world = World(one("p"), quota=quota)

    def start(how, *, background):
        if how == "not looked up":
            return asyncio.ensure_future(world.service.embed(ask("a"), background=background))
        return begin(world, "a", background=background)

    async def run():
        background = start(first, background=True)
        await quota.is_waiting.wait()
        applications = [start(second, background=False) for _ in range(3)]
        for _ in range(9):
            await asyncio.sleep(0)
        assert quota.of_background == []  # they wait for the flight of the first
        quota.may_go.set()
        return await asyncio.gather(background, *applications, return_exceptions=True)

    refused, *answers = world.run(run())
    assert isinstance(refused, errors.QuotaReserved)
    for answer in answers:
        assert isinstance(answer, Answer)
        assert answer.vectors == vectors("m", "a")
    # They went on together, by one call of their own.
    assert quota.of_background == [False]
    assert world.asked("p") == [["a"]]


def test_background_work_that_joins_application_spends_nothing():
    world = World(one("p"), quota=Quota(left=10, kept=10))
    world.net["p"].delay_seconds = 1

    async def run():
        application = asyncio.ensure_future(world.service.embed(ask("a")))
        await asyncio.sleep(0.5)
        background = asyncio.ensure_future(world.service.embed(ask("a"), background=True))
        return await asyncio.gather(application, background)

    answers = world.run(run())
    assert [it.attempts for it in answers] == [1, 0]
    assert world.quota.of_background == [False]
