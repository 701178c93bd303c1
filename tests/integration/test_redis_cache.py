"""The shared layer against a real Redis: round trips, expiry, stalls, restarts."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import redis

from embedding_sidecar import cache, errors, generations, layers, provider, redis_cache
from tests.parts import sidecar

pytestmark = pytest.mark.integration

SCOPE = "shop/policy/search"
PATIENT = 20.0
"""Seconds; a budget that a busy machine keeps too. Where time must run out, the budget is short."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[sidecar.Redis]:
    made = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield made
    made.kill()


@pytest.fixture
def asked(server) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client


def run(server, use, *, budget_seconds=PATIENT):
    """The outcome of `use(store)`, the store closed afterwards."""

    async def whole():
        store = redis_cache.RedisCache(
            redis_cache.connect(server.url), scope=SCOPE, budget_seconds=budget_seconds
        )
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def test_what_is_written_is_read_in_the_order_asked(server, asked):
    async def use(store):
        await store.write({"a": b"1", "b": b"\0\xff"}, ttl_seconds=60)
        return await store.read(["b", "missing", "a", "b"])

    assert run(server, use) == [b"\0\xff", None, b"1", b"\0\xff"]


def test_every_entry_expires(server, asked):
    run(server, lambda store: store.write({"a": b"1", "b": b"2"}, ttl_seconds=100))
    assert all(0 < asked.pttl(key) <= 100_000 for key in ("a", "b"))


def test_a_batch_is_one_command_to_read_and_one_round_trip_to_write(server, asked):
    def commands() -> int:
        return int(asked.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])

    async def use(store):
        await store.write({f"{number}": b"x" for number in range(2048)}, ttl_seconds=60)
        return await store.read([f"{number}" for number in range(2048)])

    before = commands()
    assert run(server, use) == [b"x"] * 2048
    assert commands() == before + 1


def test_a_redis_that_stalls_is_given_up_and_its_late_answer_is_nobody_elses(server, asked):
    asked.mset({"a": "1", "b": "2"})

    async def use(store):
        asked.client_pause(3000)
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])
        while True:
            try:
                return await store.read(["b"])
            except errors.StoreAway:
                await asyncio.sleep(0.05)

    assert run(server, use, budget_seconds=0.5) == [b"2"]


def test_a_redis_that_is_not_there_is_away(tmp_path):
    gone = redis_cache.connect(f"redis://127.0.0.1:{sidecar.free_port()}/0")

    async def use():
        store = redis_cache.RedisCache(gone, scope=SCOPE)
        for attempt in (
            store.read(["a"]),
            store.write({"a": b"1"}, ttl_seconds=1),
            store.generations(),
            store.set_generation("m", "1", only_if_missing=True),
        ):
            with pytest.raises(errors.StoreAway):
                await attempt
        await store.close()

    asyncio.run(use())


def test_a_value_of_another_type_is_away_and_not_a_crash(server, asked):
    asked.rpush(f"{redis_cache.GENERATIONS_PREFIX}{SCOPE}", "a list")
    with pytest.raises(errors.StoreAway):
        run(server, lambda store: store.generations())


def test_a_redis_that_was_restarted_is_used_again(tmp_path):
    server = sidecar.Redis(tmp_path)

    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        server.kill()
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])
        server.start()
        return await store.read(["a"])

    try:
        assert run(server, use) == [b"1"]
    finally:
        server.kill()


def test_a_generation_that_is_there_is_not_replaced_by_a_pod_that_starts(server, asked):
    async def use(store):
        await store.set_generation(generations.WHOLE, "one", only_if_missing=True)
        await store.set_generation(generations.WHOLE, "two", only_if_missing=True)
        await store.set_generation("m", "three", only_if_missing=False)
        await store.set_generation("m", "four", only_if_missing=False)
        return await store.generations()

    assert run(server, use) == {generations.WHOLE: "one", "m": "four"}


class Silence:
    def looked_up(self, layer, *, hits, seconds):
        pass

    def missed(self, items):
        pass

    def error(self, kind, provider=""):
        pass


def layered(store) -> layers.Layers:
    memory = cache.MemoryCache(max_bytes=10**6, ttl_seconds=60)
    return layers.Layers(
        scope=SCOPE,
        ttl_seconds=60,
        memory=memory,
        store=store,
        generations=generations.Generations(store=store, forget=memory.forget),
        observe=Silence(),
    )


def test_pods_share_entries_until_one_clears_them(server, asked):
    ask = provider.Ask(model="m", items=("x",))
    entry = cache.Entry(model="m", space="s", vector=b"\0" * 8, tokens=1, made_at=time.time())

    async def use(store):
        one, other = layered(store), layered(store)
        await one.refresh()
        await other.refresh()
        (key,) = one.keys(ask, space="s")
        await one.put_many({key: entry})
        found = [await other.get_many(other.keys(ask, space="s"))]
        await one.clear(None)
        await other.refresh()
        found.append(await other.get_many(other.keys(ask, space="s")))
        return found

    assert run(server, use) == [[entry], [None]]


def test_a_password_is_in_no_text_of_ours():
    client = redis_cache.connect("redis://user:secret-word@127.0.0.1:1/0")
    store = redis_cache.RedisCache(client, scope=SCOPE)
    assert "secret-word" not in f"{client!r} {store!r}"
    with pytest.raises(errors.StoreAway) as caught:
        asyncio.run(store.read(["a"]))
    assert "secret-word" not in f"{caught.value} {caught.value.__cause__}"
