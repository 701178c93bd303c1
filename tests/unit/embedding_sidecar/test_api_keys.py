"""Key rotation: the previous key serves while the new one is refused, for ten minutes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar.engine import breaker
from embedding_sidecar.engine.provider_states import PREVIOUS_SECONDS, ApiKey, ProviderStates
from tests.fakes import provider as stand_in
from tests.parts.world import World, one, vectors

CHANGED = ApiKey(current="sk-new", previous=stand_in.KEY, previous_until=PREVIOUS_SECONDS)


def test_refused_new_key_falls_back_to_previous_one_at_once_and_is_told():
    world = World(one("p"), keys={"p": CHANGED})
    answer = world.embed("a")
    assert (answer.vectors, answer.attempts) == (vectors("m", "a"), 2)
    assert [call.key for call in world.net["p"].calls] == ["sk-new", stand_in.KEY]
    assert world.quota.settled == [(False, 0), (True, 1)]
    assert world.service.refused_keys() == {"p"}
    assert world.service.health() == {"p": "key_refused"}
    assert world.seen.errors == [("misconfigured", "openai")]


def test_new_key_is_not_tried_by_every_request_and_taken_once_it_works():
    world = World(one("p"), keys={"p": CHANGED})
    for number in range(5):
        assert world.embed(f"{number}").provider == "p"
    assert [call.key for call in world.net["p"].calls].count("sk-new") == 1
    world.net["p"].key = "sk-new"
    world.loop.pass_time(breaker.OPEN_SECONDS)
    assert world.embed("x").attempts == 1
    assert world.service.refused_keys() == frozenset()
    assert world.service.health() == {"p": "ok"}


def test_new_key_that_works_is_all_that_is_used():
    world = World(one("p"), keys={"p": CHANGED})
    world.net["p"].key = "sk-new"
    assert world.embed("a").attempts == 1
    assert world.service.refused_keys() == frozenset()


def test_previous_key_is_gone_after_its_time():
    world = World(one("p"), keys={"p": CHANGED})
    world.loop.pass_time(PREVIOUS_SECONDS)
    assert world.refusal("a").code == "all_providers_failed"
    assert [call.key for call in world.net["p"].calls] == ["sk-new"]
    assert world.service.refused_keys() == {"p"}


def test_only_refusal_of_key_is_about_key():
    world = World(one("p"), keys={"p": CHANGED})
    world.net["p"].key = None
    world.net["p"].fault = stand_in.status(404)
    world.refusal("a")
    assert len(world.net["p"].calls) == 1
    assert world.service.refused_keys() == frozenset()


def test_other_provider_answers_when_both_keys_are_refused():
    both = ApiKey(current="sk-new", previous="sk-old", previous_until=PREVIOUS_SECONDS)
    world = World(
        one("p", space="s"), one("q", "n", space="s"), keys={"p": both, "q": stand_in.KEY}
    )
    assert world.embed("a").provider == "q"
    assert world.embed("b").attempts == 1
    assert world.seen.errors == [("misconfigured", "openai")] * 2


def test_keys_are_never_shown():
    assert "sk-" not in repr(CHANGED)


# --- across changes


def follow(states, key, *, now, **more):
    """The key in force once the policy has this one."""
    given = {"name": "p", "kind": "OpenAI", "model": "m", "base_url": "http://one", **more}
    provider = document.Provider(**given)
    policy = document.PolicyDocument(namespace="n", name="p", providers=(provider,))
    return states.follow(policy, {"p": key}, now=now)["p"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 400)), min_size=1))
def test_key_before_last_change_is_held_for_ten_minutes(changes):
    states = ProviderStates()
    now, changed_at, before, current = 0.0, None, None, None
    for key, seconds in changes:
        now += seconds
        if current is not None and key != current:
            before, changed_at = current, now
        current = key
        held = follow(states, key, now=now)
        assert held.current == key
        still = changed_at is not None and now - changed_at < PREVIOUS_SECONDS
        assert held.fallback(now=now) == (before if still else None)


@pytest.mark.parametrize("more", [{"base_url": "http://two"}, {"kind": "Voyage"}])
def test_key_is_never_offered_to_another_provider(more):
    states = ProviderStates()
    follow(states, "sk-1", now=0.0)
    assert follow(states, "sk-2", now=1.0, **more).fallback(now=1.0) is None
    assert follow(states, "sk-3", now=2.0).fallback(now=2.0) is None


@pytest.mark.parametrize(("before", "after"), [("c", None), (None, "c"), ("c", "d")])
def test_key_of_class_is_never_offered_to_provider_that_is_not_of_class(before, after):
    # By a wrong key of its own, a tenant would spend the class's key beside its ceiling and rate,
    # and through a proxy of the tenant's choice.
    states = ProviderStates()
    follow(states, "sk-1", now=0.0, class_name=before)
    assert follow(states, "sk-2", now=1.0, class_name=after).fallback(now=1.0) is None


def test_key_of_class_that_is_rotated_is_offered_to_same_class():
    states = ProviderStates()
    follow(states, "sk-1", now=0.0, class_name="c")
    assert follow(states, "sk-2", now=1.0, class_name="c").fallback(now=1.0) == "sk-1"


def test_wrong_keys_in_row_do_not_lose_good_one():
    states = ProviderStates()
    follow(states, "sk-good", now=0.0)
    follow(states, "sk-wrong", now=1.0)
    states.refused["p"] = 11.0
    held = follow(states, "sk-wrong-too", now=2.0)
    assert (held.current, held.fallback(now=3.0)) == ("sk-wrong-too", "sk-good")
    assert "p" not in states.refused
    states.refused["p"] = 13.0
    assert follow(states, "sk-good", now=4.0) == ApiKey(current="sk-good")


def test_refused_key_with_none_before_it_is_not_held():
    states = ProviderStates()
    follow(states, "sk-wrong", now=0.0)
    states.refused["p"] = 10.0
    assert follow(states, "sk-good", now=1.0).fallback(now=1.0) is None


def test_service_of_before_edit_keeps_its_key():
    states = ProviderStates()
    provider = document.Provider(name="p", kind="OpenAI", model="m", base_url="http://one")
    policy = document.PolicyDocument(namespace="n", name="p", providers=(provider,))
    of_before = states.follow(policy, {"p": "sk-1"}, now=0.0)
    follow(states, "sk-2", now=1.0, base_url="http://two")
    assert of_before["p"] == ApiKey(current="sk-1")


def test_key_refused_before_is_told_until_it_works():
    states = ProviderStates()
    states.refused["p"] = float("-inf")
    world = World(one("p"), states=states)
    assert world.service.refused_keys() == {"p"}
    world.embed("a")
    assert world.service.refused_keys() == frozenset()
