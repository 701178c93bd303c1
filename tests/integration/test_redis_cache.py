"""The shared layer against a real Redis: round trips, expiry, stalls, restarts."""

import asyncio
import time

import pytest

from embedding_sidecar import errors
from embedding_sidecar.cache import (
    cache_entry,
    generations,
    memory_cache,
    redis_generations,
    tiered_cache,
)
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.translation import provider_api
from tests.parts import awaited, ports, sidecar

pytestmark = pytest.mark.integration

SCOPE = "shop/policy/search"
PATIENT = 20.0
"""Seconds; a budget that a busy machine keeps too. Where time must run out, the budget is short."""


def run(server, use, *, budget_seconds=PATIENT):
    """The outcome of `use(store)`, the store closed afterwards."""

    async def whole():
        store = awaited.RedisCache(
            redis_url.connect(server.url), scope=SCOPE, budget_seconds=budget_seconds
        )
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def test_values_are_read_in_order_of_keys(server, asked):
    async def use(store):
        await store.write({"a": b"1", "b": b"\0\xff"}, ttl_seconds=60)
        return await store.read(["b", "missing", "a", "b"])

    assert run(server, use) == [b"\0\xff", None, b"1", b"\0\xff"]


def test_every_entry_expires(server, asked):
    run(server, lambda store: store.write({"a": b"1", "b": b"2"}, ttl_seconds=100))
    assert all(0 < asked.pttl(key) <= 100_000 for key in ("a", "b"))


def test_batch_is_one_command_to_read_and_one_round_trip_to_write(server, asked):
    def commands() -> int:
        return int(asked.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])

    async def use(store):
        await store.write({f"{number}": b"x" for number in range(2048)}, ttl_seconds=60)
        return await store.read([f"{number}" for number in range(2048)])

    before = commands()
    assert run(server, use) == [b"x"] * 2048
    assert commands() == before + 1


def test_stalled_redis_is_given_up_and_its_late_reply_is_dropped(server, asked):
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


def test_redis_that_is_full_is_away_for_writing_and_its_entries_are_there(server, asked):
    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        asked.config_set("maxmemory", "1")
        try:
            with pytest.raises(errors.StoreAway):
                await store.write({"b": b"2", "c": b"3"}, ttl_seconds=60)
        finally:
            asked.config_set("maxmemory", "0")
        await store.write({"d": b"4"}, ttl_seconds=60)
        return await store.read(["a", "b", "c", "d"])

    assert run(server, use) == [b"1", None, None, b"4"]


def test_redis_that_is_not_there_is_away(tmp_path):
    gone = redis_url.connect(f"redis://127.0.0.1:{ports.free()}/0")

    async def use():
        store = awaited.RedisCache(gone, scope=SCOPE)
        for attempt in (
            store.read(["a"]),
            store.write({"a": b"1"}, ttl_seconds=1),
            store.generations.generations(),
            store.generations.generation("m"),
            store.generations.begin({"m": "1"}),
            store.generations.replace({"m": "1"}, dropped=["n"]),
            store.remove(["a"]),
        ):
            with pytest.raises(errors.StoreAway):
                await attempt
        await store.close()

    asyncio.run(use())


def test_value_of_another_type_is_away_and_not_crash(server, asked):
    asked.rpush(f"{redis_generations.PREFIX}{SCOPE}", "a list")
    with pytest.raises(errors.StoreAway):
        run(server, lambda store: store.generations.generations())


LIES = [
    b":5\r\n",
    b"+OK\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"*1\r\n:5\r\n",
    b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
    b"*1\r\n*1\r\n$1\r\nx\r\n",
    b"-WRONGTYPE of everything\r\n",
    b"-MOVED 1 nowhere:1\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\0\xff",
    b"",
]


@pytest.mark.parametrize("after_greeting", [True, False])
@pytest.mark.parametrize("lie", LIES)
def test_redis_that_lies_is_miss_or_away(lie, after_greeting):
    entry = cache_entry.Entry(model="m", space="s", vector=b"\0" * 8, tokens=1, made_at=time.time())

    async def answer(reader, writer):
        while words := await reader.read(65536):
            greeted = any(word in words for word in (b"MGET", b"SET", b"HGET", b"EVAL"))
            writer.write(lie if greeted or not after_greeting else b"+OK\r\n")
            if not lie:
                break
        writer.close()

    async def whole():
        liar = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = liar.sockets[0].getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0?protocol=2"
        store = awaited.RedisCache(
            redis_url.connect(url),
            scope=SCOPE,
            budget_seconds=0.2,
            management_budget_seconds=0.2,
        )
        try:
            lied_to = layered(store)
            await lied_to.refresh()
            assert await lied_to.get_many(["a"]) == [None]
            lied_to.put_many({"a": entry})
            assert await lied_to.get_many(["a"]) == [entry]
            with pytest.raises(errors.Unavailable):
                await lied_to.generations.clear(None)
        finally:
            await store.close()
            liar.close()

    asyncio.run(whole())


def test_redis_that_was_restarted_is_used_again(tmp_path):
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


def test_generation_that_is_there_is_not_replaced_by_pod_that_starts(server, asked):
    async def use(store):
        await store.generations.begin({generations.WHOLE: "one"})
        await store.generations.begin({generations.WHOLE: "two", "n": "three"})
        return await store.generations.generations(), await store.generations.generation("n", "m")

    expected = {generations.WHOLE: "one", "n": "three"}
    assert run(server, use) == (expected, ["three", None])


def test_generations_replace_each_other(server, asked):
    async def use(store):
        await store.generations.replace({"m": "one", "n": "one"}, dropped=[])
        await store.generations.replace({"m": "two"}, dropped=["n", "never there"])
        return await store.generations.generations()

    assert run(server, use) == {"m": "two"}


class Silence:
    def looked_up(self, layer, *, hits, seconds):
        pass

    def missed(self, items):
        pass

    def saved(self, *, model, tokens):
        pass

    def error(self, kind, provider=""):
        pass


def layered(store) -> tiered_cache.TieredCache:
    memory = memory_cache.MemoryCache(max_bytes=10**6, ttl_seconds=60)
    return tiered_cache.TieredCache(
        scope=SCOPE,
        ttl_seconds=60,
        memory=memory,
        store=store,
        generations=generations.Generations(store=store.generations, forget=memory.forget),
        observe=Silence(),
    )


def test_pods_share_entries_until_one_clears_them(server, asked):
    ask = provider_api.Ask(model="m", items=("x",))
    entry = cache_entry.Entry(model="m", space="s", vector=b"\0" * 8, tokens=1, made_at=time.time())

    async def use(store):
        one, other = layered(store), layered(store)
        await one.refresh()
        await other.refresh()
        (key,) = one.keys(ask, space="s")
        one.put_many({key: entry})
        found = [await other.get_many(other.keys(ask, space="s"))]
        await one.generations.clear(None)
        await other.refresh()
        found.append(await other.get_many(other.keys(ask, space="s")))
        return found

    assert run(server, use) == [[entry], [None]]


def test_password_is_in_no_text_of_ours():
    client = redis_url.connect("redis://user:secret-word@127.0.0.1:1/0")
    store = awaited.RedisCache(client, scope=SCOPE)
    assert "secret-word" not in f"{client!r} {store!r}"
    with pytest.raises(errors.StoreAway) as caught:
        asyncio.run(store.read(["a"]))
    assert "secret-word" not in f"{caught.value} {caught.value.__cause__}"
