"""Requests to a provider of the platform, whose ceiling or Redis lets no call go."""

import asyncio
import functools

import pytest

from embedding_contract import class_keys
from embedding_sidecar import errors
from embedding_sidecar.rate import rates
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.window import Terms
from tests.parts.world import Quota, World, ask, one, vectors


class Asked(Quota):
    """Answers later, as a store does."""

    def draw(self, **asked):
        answer = functools.partial(super().draw, **asked)
        return asyncio.get_running_loop().call_later(0.01, answer).cancel


def two(**rest) -> World:
    return World(one("p", space="s"), one("q", space="s"), **rest)


def test_other_provider_answers_when_ceiling_is_used_up():
    ceiling = Quota(1)
    world = two(ceilings={"p": ceiling})
    left = world.quota.left
    assert [world.embed(it).provider for it in "abc"] == ["p", "q", "q"]
    # Each call counts once, and what the ceiling refused was given back.
    assert world.quota.left == left - 3
    assert (ceiling.settled, ceiling.left) == ([(True, 1)], 0)
    assert world.service.health() == {"p": "ok", "q": "ok"}
    assert world.seen.errors == []


@pytest.mark.parametrize("enabled", [True, False])
def test_lone_provider_s_ceiling_refuses_as_quota_and_names_class(enabled):
    providers = [one("p", space="s")] if enabled else [one("p"), one("q")]
    world = World(*providers, enabled=enabled, ceilings={"p": Quota(0)})
    refused = world.refusal("a")
    assert isinstance(refused, errors.QuotaExhausted)
    assert refused.message == "Ceiling of provider class 'c': used up"
    assert world.quota.left == 10**6


def test_policy_s_own_quota_still_refuses_at_once():
    world = two(quota=Quota(0), ceilings={"p": Quota()})
    assert isinstance(world.refusal("a"), errors.QuotaExhausted)
    assert world.asked("q") == []


def test_application_that_joins_refused_background_call_makes_its_own():
    world = World(one("p"), ceilings={"p": Asked(1, kept=1)})

    async def both():
        asked = [
            world.service.embed(ask("a"), background=background) for background in (True, False)
        ]
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, answer = world.run(both())
    assert isinstance(refused, errors.QuotaReserved)
    assert answer.vectors == vectors("m", "a")


@pytest.mark.parametrize("names", ["p", "pq"])
def test_class_s_redis_that_is_away_stops_no_other_provider(names):
    world = World(*(one(it, space="s") for it in names))
    place = Place(class_keys.window("c"), None, Terms(calls=1), may_go_alone=False)
    caller = world.service._caller
    caller.rates = rates.Rates(clock=world.loop.time).obey({"p": [place]})
    if "q" in names:
        assert world.embed("a").provider == "q"
        assert world.service.health() == {"p": "ok", "q": "ok"}
    else:
        assert world.refusal("a").code == "quota_store_unavailable"
