"""Making runtimes."""

import asyncio
import dataclasses
from typing import Any

import pytest

from embedding_contract import document, json_fields, names
from embedding_sidecar import errors
from embedding_sidecar.cache import redis_cache
from embedding_sidecar.policy import policy_file, runtime
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import http_client
from tests.parts import upstreams
from tests.parts.callbacks import draw

ONE_VECTOR = b'{"data": [{"index": 0, "embedding": [0.5]}], "usage": {"total_tokens": 1}}'


def test_store_of_cache_is_closed_at_end(monkeypatch):
    closed: list[object] = []

    async def close(store):
        closed.append(store)

    monkeypatch.setattr(redis_cache.RedisCache, "close", close)
    cached = dataclasses.replace(policy(), cache=document.Cache(redis_url_file="url"))

    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics())
        for number in (1, 2):
            secrets = {"url": f"redis://127.0.0.1:{number}".encode()}
            factory.make(policy_file.load(cached, "f" * 16, secrets))
        await asyncio.sleep(0)
        await factory.close()

    asyncio.run(scenario())
    assert len(set(closed)) == 2


def policy(**quota):
    provider = document.Provider(name="a", kind="OpenAI", model="m", base_url="https://x")
    return document.PolicyDocument(
        namespace="shop", name="main", providers=(provider,), quota=document.Quota(**quota)
    )


def test_limit_in_money_without_price_is_refused_before_it_is_in_force():
    runtime.check(policy(monthly_requests=1))
    with pytest.raises(json_fields.InvalidDocument) as invalid:
        runtime.check(policy(monthly_cost=1))
    assert invalid.value.path == "providers[0].pricePerMillionTokens"


def test_limit_in_money_of_class_needs_prices_of_its_providers_only():
    own = policy().providers[0]
    of_class = dataclasses.replace(own, name="b", class_name="openai")
    limits = document.ProviderClass(name="openai", quota=document.Quota(daily_cost=1))
    both = dataclasses.replace(policy(), providers=(own, of_class), classes=(limits,))
    with pytest.raises(json_fields.InvalidDocument) as invalid:
        runtime.check(both)
    assert invalid.value.path == "providers[1].pricePerMillionTokens"
    priced = dataclasses.replace(of_class, price_per_million_tokens="1")
    runtime.check(dataclasses.replace(both, providers=(own, priced)))


async def spend(made, calls):
    """How many of so many calls could be made."""
    for number in range(calls):
        try:
            made.quota.settle(await draw(made.quota, tokens=1), billed=True, tokens=1)
        except (errors.QuotaExhausted, errors.Unavailable):
            return number
    return calls


def in_turn(*documents, secrets=({},)):
    """How many of 30 calls each document allows, one after the other in one process."""

    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics())
        given = list(secrets) + [secrets[-1]] * len(documents)
        loaded = [
            policy_file.load(it, "f" * 16, some) for it, some in zip(documents, given, strict=False)
        ]
        try:
            return [await spend(factory.make(it), 30) for it in loaded]
        finally:
            await factory.close()

    return asyncio.run(scenario())


def test_editing_limits_refills_nothing():
    assert in_turn(*(policy(daily_requests=limit) for limit in (10, 15, 12, 20))) == [10, 5, 0, 5]


def test_another_policy_has_day_of_its_own():
    first = policy(daily_requests=10)
    assert in_turn(first, dataclasses.replace(first, name="other")) == [10, 10]


def test_redis_whose_url_is_not_there_yet_refills_nothing_either():
    alone = policy(daily_requests=10)
    shared = policy(
        daily_requests=20, redis_url_file=names.SECRET_QUOTA_REDIS_URL, deny_on_store_loss=False
    )
    assert in_turn(alone, shared, policy(daily_requests=20)) == [10, 10, 0]


def test_quota_is_closed_until_url_of_redis_is_there():
    shared = policy(daily_requests=20, redis_url_file=names.SECRET_QUOTA_REDIS_URL)
    assert in_turn(shared) == [0]


@pytest.mark.parametrize("edited", [{"daily_requests": 20}, {"daily_requests": 10}])
def test_runtime_of_before_edit_counts_in_same_day(edited):
    """A request under way has the runtime it began with, and may make calls yet."""

    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics())
        before = factory.make(policy_file.load(policy(daily_requests=20), "f" * 16, {}))
        after = factory.make(policy_file.load(policy(**edited), "e" * 16, {}))
        try:
            return await spend(before, 7) + await spend(after, 7) + await spend(before, 30)
        finally:
            await factory.close()

    assert asyncio.run(scenario()) == edited["daily_requests"]


def test_edit_keeps_refused_and_good_keys(monkeypatch):
    sent = []

    def start(_, request, *, within_seconds, done):
        assert within_seconds > 0
        sent.append(request.headers["authorization"].removeprefix("Bearer "))
        answer = (200, ONE_VECTOR) if sent[-1] == "sk-good" else (401, b"{}")
        said = provider_api.HttpAnswer(status=answer[0], lines=(), body=answer[1])
        return asyncio.get_running_loop().call_soon(done, upstreams.carried(said, request)).cancel

    monkeypatch.setattr(http_client.HttpClient, "start", start)
    with_a_key = dataclasses.replace(policy().providers[0], api_key_file="key")
    first = dataclasses.replace(
        policy(), providers=(with_a_key,), cache=document.Cache(ttl_seconds=0)
    )
    edited = dataclasses.replace(first, log_level="debug")
    ask = provider_api.Ask(model="m", items=("a",))

    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics())

        def make(policy, key):
            return factory.make(policy_file.load(policy, "f" * 16, {"key": key})).service

        try:
            await make(first, b"sk-good").embed(ask)
            await asyncio.sleep(0)  # the cache is told what has landed
            await make(first, b"sk-wrong").embed(ask)
            after_edit = make(edited, b"sk-wrong")
            assert after_edit.refused_keys() == {"a"}
            wrong_again = make(edited, b"sk-wrong-too")
            assert wrong_again.refused_keys() == frozenset()
            await asyncio.sleep(0)
            await wrong_again.embed(ask)
        finally:
            await factory.close()

    asyncio.run(scenario())
    assert sent == ["sk-good", "sk-wrong", "sk-good", "sk-wrong-too", "sk-good"]


@pytest.mark.parametrize(("memory_mib", "writing_mib"), [(64, 16), (192, 24), (384, 48)])
def test_eighth_of_memory_may_be_on_its_way_to_redis(memory_mib, writing_mib):
    url = names.SECRET_CACHE_REDIS_URL
    cached = dataclasses.replace(policy(), cache=document.Cache(redis_url_file=url))

    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics(), memory_bytes=memory_mib * 2**20)
        # Nobody is asked, so nobody need listen there.
        loaded = policy_file.load(cached, "f" * 16, {url: b"redis://127.0.0.1:1"})
        store: Any = factory.make(loaded).cache._store
        await factory.close()
        return store._max_writing_bytes

    assert asyncio.run(scenario()) == writing_mib * 2**20
