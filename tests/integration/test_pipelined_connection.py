"""Pipelining on one connection: each command gets its own reply, or none, never another."""

import asyncio
import itertools
import time

import pytest
import uvloop

from embedding_contract import document, names
from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry, entry_encoding, redis_nodes
from embedding_sidecar.policy import policy_file, runtime
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.telemetry.metrics import Metrics
from tests.parts import awaited, ports, sidecar, strange_redis

pytestmark = pytest.mark.integration

PATIENT = 20.0
"""Seconds; a budget that a busy machine keeps too. Where time must run out, the budget is short."""
SHORT = 0.2
NAMED = "pipe-under-test"
BATCH = [f"{number}" for number in range(redis_nodes.FEW + 1)]


def run(url, use, *, budget_seconds=PATIENT, **more):
    """The outcome of `use(store)`, the store closed afterwards."""

    async def whole():
        client = redis_url.connect(f"{url}?client_name={NAMED}")
        store = awaited.RedisCache(client, scope="s", budget_seconds=budget_seconds, **more)
        try:
            return await use(store)
        finally:
            await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def connections(asked) -> set[str]:
    """The connections of the store under test, by Redis's number of them."""
    return {it["id"] for it in asked.client_list() if it["name"] == NAMED}


async def in_turns(attempts):
    """All of these, each begun in a turn of the event loop of its own."""
    begun = []
    for attempt in attempts:
        begun.append(asyncio.ensure_future(attempt))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return await asyncio.gather(*begun, return_exceptions=True)


async def again(attempt):
    """What it comes to as soon as Redis is there again."""
    async with asyncio.timeout(PATIENT):
        while True:
            try:
                return await attempt()
            except errors.StoreAway:
                await asyncio.sleep(0.02)


def test_private_name_of_redis_py_exists(server):
    async def use():
        pool = redis_url.connect(server.url).connection_pool
        connection = pool.make_connection()
        await connection.connect()
        try:
            assert not await connection.can_read()
            assert connection.socket_timeout > 0
            assert isinstance(connection._writer.transport, asyncio.Transport)
        finally:
            await connection.disconnect(nowait=True)

    asyncio.run(use())


def test_batches_share_one_connection_and_each_gets_its_own_reply(server, asked):
    asked.mset({key: key for key in "abcdefgh"})

    async def use(store):
        await store.read(["a"])
        before = connections(asked)
        asked.client_pause(300)
        found = await in_turns(store.read([key, "none"]) for key in "abcdefgh")
        return before, found, connections(asked)

    before, found, after = run(server.url, use)
    assert found == [[key.encode(), None] for key in "abcdefgh"]
    assert len(before) == 1
    assert after == before


def test_connection_is_kept_until_it_is_closed_and_then_gone(server, asked):
    async def use(store):
        for _ in range(20):
            await store.write({"a": b"1"}, ttl_seconds=60)
            await store.read(["a"])
        return connections(asked)

    assert len(run(server.url, use)) == 1
    sidecar.wait_until(lambda: not connections(asked))


def test_connection_that_redis_closed_while_idle_is_made_anew(server, asked):
    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        (number,) = connections(asked)
        asked.client_kill_filter(_id=number)
        await asyncio.sleep(0.05)
        return await store.read(["a"])

    assert run(server.url, use) == [b"1"]


def test_server_that_became_replica_is_left_for_master(server, asked):
    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        before = connections(asked)
        asked.replicaof("127.0.0.1", ports.free())
        try:
            with pytest.raises(errors.StoreAway):
                await store.write({"a": b"2"}, ttl_seconds=60)
        finally:
            asked.replicaof("NO", "ONE")
        await store.write({"a": b"3"}, ttl_seconds=60)
        return before & connections(asked), await store.read(["a"])

    assert run(server.url, use) == (set(), [b"3"])


def test_refusal_is_no_reason_to_leave_and_spoils_no_other_turn(server, asked):
    asked.mset({"a": "1"})

    async def use(store):
        await store.read(["a"])
        before = connections(asked)
        asked.config_set("maxmemory", "1")
        try:
            found = await in_turns(
                [store.read(["a"]), store.write({"b": b"2"}, ttl_seconds=60), store.read(["a"])]
            )
        finally:
            asked.config_set("maxmemory", "0")
        return before == connections(asked), found

    is_same, (first, second, third) = run(server.url, use)
    assert is_same
    assert (first, third) == ([b"1"], [b"1"])
    assert isinstance(second, errors.StoreAway)


# --- servers that are no Redis, or a strange one


async def echo(words) -> bytes:
    """A Redis in which each key is its own value."""
    if words[0] == b"MGET":
        values = (b"$%d\r\n%b\r\n" % (len(word), word) for word in words[1:])
        return b"*%d\r\n%b" % (len(words) - 1, b"".join(values))
    return b"+OK\r\n"


def before(strange, use, *, budget_seconds=PATIENT):
    """The outcome of `use(store)` at this server."""

    async def whole():
        async with strange.serving() as url:
            client = redis_url.connect(url)
            store = awaited.RedisCache(client, scope="s", budget_seconds=budget_seconds)
            try:
                return await use(store)
            finally:
                await store.close()

    return asyncio.run(whole())


@pytest.mark.parametrize(
    "more",
    [
        b"+OK\r\n",
        b"*1\r\n$1\r\nx\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n",
        b"\0\xff",
    ],
    ids=["an answer", "another's answer", "a push", "no Redis"],
)
def test_server_that_sends_unsolicited_data_is_left(more):
    async def gossip(words):
        return await echo(words) + (more if words[0] == b"MGET" else b"")

    strange = strange_redis.Strange(gossip, echo)

    async def use(store):
        first = await store.read(["a"])
        await asyncio.sleep(0.05)
        return first, await again(lambda: store.read(["b"]))

    assert before(strange, use) == ([b"a"], [b"b"])
    assert strange.accepted == 2


def test_push_message_is_no_reply():
    async def pushing(words):
        return b">2\r\n$1\r\nx\r\n$1\r\ny\r\n" + await echo(words)

    strange = strange_redis.Strange(pushing, echo)

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.read(["a", "b"])
        return await store.read(["a", "b"])

    assert before(strange, use) == [b"a", b"b"]
    assert strange.accepted == 2


@pytest.mark.parametrize("lie", [b":5\r\n", b"*1\r\n$1\r\nx\r\n", b"$1\r\nx\r\n", b"*-1\r\n"])
def test_reply_of_other_shape_fails_all_outstanding(lie):
    async def lying(words):
        return lie if b"a" in words else await echo(words)

    strange = strange_redis.Strange(lying, echo)

    async def use(store):
        failed = await in_turns([store.read(["a", "b"]), store.read(["c"])])
        return failed, await store.read(["d"])

    failed, found = before(strange, use)
    assert [type(it) for it in failed] == [errors.StoreAway] * 2
    assert found == [b"d"]
    assert strange.accepted == 2


def test_late_reply_is_dropped():
    let = asyncio.Event()

    async def slow(words):
        if b"a" in words:
            await let.wait()
        return await echo(words)

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])
        later = asyncio.ensure_future(store.read(["b"]))
        await asyncio.sleep(0)
        let.set()
        return await later

    strange = strange_redis.Strange(slow)
    assert before(strange, use, budget_seconds=SHORT) == [b"b"]
    assert strange.accepted == 1


def test_connection_that_is_slow_to_make_is_made_once_and_kept():
    let = asyncio.Event()

    async def slow(words):
        await let.wait()
        return await echo(words)

    async def use(store):
        for _ in range(3):
            with pytest.raises(errors.StoreAway):
                await store.read(["a"])
        let.set()
        return await again(lambda: store.read(["a"]))

    strange = strange_redis.Strange(slow)
    assert before(strange, use, budget_seconds=0.05) == [b"a"]
    assert strange.accepted == 1


def test_server_that_has_gone_silent_is_left(monkeypatch):
    monkeypatch.setattr(redis_url, "_SOCKET_SECONDS", SHORT)
    strange = strange_redis.Strange(strange_redis.silent, echo)

    async def use(store):
        return await again(lambda: store.read(["a"]))

    assert before(strange, use, budget_seconds=0.05) == [b"a"]
    assert strange.accepted == 2


def test_server_that_answers_slowly_but_constantly_is_kept(monkeypatch):
    monkeypatch.setattr(redis_url, "_SOCKET_SECONDS", SHORT)

    async def slow(words):
        await asyncio.sleep(SHORT / 2)
        return await echo(words)

    async def use(store):
        return await in_turns(store.read([f"{number}"]) for number in range(10))

    strange = strange_redis.Strange(slow)
    assert before(strange, use) == [[f"{number}".encode()] for number in range(10)]
    assert strange.accepted == 1


def test_single_read_does_not_wait_behind_batch():
    async def stuck(words):
        await asyncio.Event().wait()

    def by_turns(words):
        return (stuck if len(words) > redis_nodes.FEW else echo)(words)

    async def use(store):
        batch = asyncio.ensure_future(store.read(BATCH))
        await asyncio.sleep(0.05)
        found = await store.read(["a"])
        return found, batch.done()

    assert before(strange_redis.Strange(by_turns, by_turns), use) == ([b"a"], False)


def test_caller_waiting_for_connection_is_released_on_close():
    async def use(store):
        waiting = asyncio.ensure_future(store.read(["a"]))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(errors.StoreAway):
            await waiting

    async def never(words):
        await asyncio.Event().wait()

    before(strange_redis.Strange(*itertools.repeat(never, 2)), use)


# --- writing


def test_pending_writes_are_written_before_close(server, asked):
    async def use(store):
        # No connection is there yet, and nobody waits.
        store.keep({"a": b"1"}, ttl_seconds=60, done=lambda _: None)
        store.keep(dict.fromkeys(BATCH, b"2"), ttl_seconds=60, done=lambda _: None)

    run(server.url, use)
    assert asked.mget("a", *BATCH) == [b"1"] + [b"2"] * len(BATCH)


def test_vectors_bought_last_are_written_before_runtime_ends(server, asked):
    shared = document.Cache(redis_url_file=names.SECRET_CACHE_REDIS_URL)
    policy = document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=(document.Provider(name="a", kind="OpenAI", model="m", base_url="https://x"),),
        cache=shared,
        quota=document.Quota(daily_requests=None),
    )
    loaded = policy_file.load(policy, "f" * 16, {names.SECRET_CACHE_REDIS_URL: server.url.encode()})
    entry = cache_entry.Entry(model="m", space="s", vector=b"\0" * 8, tokens=1, made_at=time.time())

    async def whole():
        factory = runtime.RuntimeFactory(metrics=Metrics())
        factory.make(loaded).cache.put_many(dict.fromkeys(BATCH, entry))
        await factory.close()

    asyncio.run(whole())
    seal = entry_encoding.Seal()
    assert asked.mget(BATCH) == [entry_encoding.encode(entry, key=key, seal=seal) for key in BATCH]


def test_end_waits_for_redis_that_is_silent_no_longer_than_for_write(monkeypatch):
    # The connection would not be given up before the test is.
    monkeypatch.setattr(redis_url, "_SOCKET_SECONDS", 10 * PATIENT)
    told: list[BaseException | None] = []

    async def whole():
        async with (
            asyncio.timeout(PATIENT),
            strange_redis.Strange(strange_redis.silent).serving() as url,
        ):
            client = redis_url.connect(url)
            store = awaited.RedisCache(client, scope="s", management_budget_seconds=SHORT)
            with pytest.raises(errors.StoreAway):
                await store.write({"a": b"1"}, ttl_seconds=60)
            store.keep({"a": b"1"}, ttl_seconds=60, done=told.append)
            await store.close()

    asyncio.run(whole())
    assert len(told) == 1
    assert told[0] is not None


def test_unacknowledged_bytes_are_bounded_and_rest_is_dropped(server, asked):
    async def use(store):
        await store.read(["a"])
        asked.client_pause(300)
        first, second, third = await in_turns(
            store.write({key: b"x" * size}, ttl_seconds=60)
            for key, size in (("a", 600), ("b", 600), ("c", 400))
        )
        # Larger than all there is room for: alone it goes.
        await store.write({"d": b"x" * 5000}, ttl_seconds=60)
        return first, type(second), third, await store.read(["a", "b", "c", "d"])

    first, second, third, found = run(server.url, use, max_writing_bytes=1000)
    assert (first, second, third) == (None, errors.StoreAway, None)
    assert [len(it or b"") for it in found] == [600, 0, 400, 5000]
