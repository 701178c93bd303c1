"""Weights: the first provider of a request is drawn, and the cache knows no difference."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar.engine import failover
from tests.fakes import provider as stand_in
from tests.parts.world import World, one, vectors

NAMES = "abcd"


def policy(*weights, enabled=True, **more) -> document.PolicyDocument:
    providers = tuple(
        one(name, "m", space="s", weight=weight, **more)
        for name, weight in zip(NAMES, weights, strict=False)
    )
    return document.PolicyDocument(
        namespace="n",
        name="p",
        providers=providers,
        failover=document.Failover(enabled=enabled),
    )


def order(found: document.PolicyDocument, share: float) -> str:
    candidates = failover.candidates(found, "m", None)
    drawn = failover.drawn(candidates, lambda: share, goes_on=found.failover.enabled)
    return "".join(it.provider.name for it in drawn)


WEIGHTS = st.lists(st.none() | st.integers(0, 1000), min_size=2, max_size=4)


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_drawn_one_is_first_and_others_keep_their_order(weights, share):
    drawn = order(policy(*weights), share)
    names = NAMES[: len(weights)]
    assert drawn[1:] == names.replace(drawn[0], "")
    counting = [1 if it is None else it for it in weights]
    if weights == [None] * len(weights) or not any(counting):
        assert drawn == names
    else:
        assert counting[names.index(drawn[0])] > 0


@given(WEIGHTS.filter(any), st.integers(0, 2**32))
def test_requests_are_shared_by_weight(weights, seed):
    found, share = policy(*weights), random.Random(seed).random
    drawn = Counter(order(found, share())[0] for _ in range(1000))
    counting = [1 if it is None else it for it in weights]
    for name, weight in zip(NAMES, counting, strict=False):
        part = weight / sum(counting)
        # Six standard deviations of a binomial distribution.
        assert abs(drawn[name] - 1000 * part) <= 6 * (1000 * part * (1 - part)) ** 0.5 + 1e-9


def test_share_decides_at_borders_of_weights():
    found = policy(3, 0, 1)
    assert [order(found, it)[0] for it in (0.0, 0.7499, 0.75, 0.9999)] == ["a", "a", "c", "c"]


def test_order_of_list_stays_without_weights():
    candidates = failover.candidates(policy(None, None), "m", None)

    def share() -> float:
        raise AssertionError

    assert failover.drawn(candidates, share, goes_on=True) is candidates


def test_weight_0_of_first_leaves_it_for_others():
    assert order(policy(0, 5), 0.0) == "ba"


def test_weights_without_failover_choose_one():
    assert order(policy(1, 1, enabled=False), 0.9) == "b"
    assert order(policy(None, None, enabled=False), 0.9) == "a"


def test_only_providers_of_name_and_space_share():
    found = document.PolicyDocument(
        namespace="n",
        name="p",
        providers=(
            one("a", "m", space="s", weight=1),
            one("b", "other", space="s", weight=1000),
            one("c", "m", space="other", weight=1000),
            one("d", "other", space="s", aliases=("m",), weight=1),
        ),
        failover=document.Failover(across_spaces=True),
    )
    assert [order(found, it) for it in (0.0, 0.4999, 0.5, 0.9999)] == ["abcd"] * 2 + ["dabc"] * 2


def shared(*weights, share):
    found = policy(*weights)
    return World(*found.providers, share=share, keys=dict.fromkeys(NAMES, stand_in.KEY))


def test_vectors_of_one_provider_are_hits_of_other():
    shares = iter([0.9, 0.0, 0.9])
    world = shared(1, 1, share=lambda: next(shares))
    assert world.embed("a").provider == "b"
    again = world.embed("a", "b")
    assert (again.provider, again.hits, again.vectors) == ("a", 1, vectors("m", "a", "b"))
    assert (world.asked("a"), world.asked("b")) == ([["b"]], [["a"]])
    # All from the cache: nothing is drawn, so a share is left.
    assert world.embed("a", "b").hits == 2
    assert next(shares) == 0.9


def test_failure_of_drawn_one_goes_on_to_others():
    world = shared(1, 3, share=lambda: 0.9)
    world.net["b"].fault = stand_in.status(401)
    answer = world.embed("a")
    assert (answer.provider, world.seen.failovers) == ("a", ["openai"])


def test_cache_is_asked_once_for_providers_of_equal_terms(monkeypatch):
    world = shared(1, 1, share=lambda: 0.9)
    looked = []
    get_many = world.cache.get_many

    async def counted(keys, **more):
        looked.append(keys)
        return await get_many(keys, **more)

    monkeypatch.setattr(world.cache, "get_many", counted)
    assert world.embed("a").provider == "b"
    assert len(looked) == 1
