"""Valid Redis URLs, without a Redis."""

import asyncio
import contextlib
import gc
import time
from typing import Any

import pytest

from embedding_sidecar import errors
from embedding_sidecar.cache import redis_cache, redis_nodes
from embedding_sidecar.redis_client import redis_url
from tests.parts import awaited

NOBODY = "127.0.0.1:1"


def generations(url):
    """What the first command over a client of this URL comes to."""

    async def ask():
        store = redis_cache.RedisCache(redis_url.connect(url), scope="shop/policy/main")
        try:
            return await store.generations.generations()
        finally:
            await store.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "url",
    [
        "http://redis",
        f"redis://:secretpw@{NOBODY}?socket_timeout=soon",
        f"redis://:secretpw@{NOBODY}?ssl_cert_reqs=none",
        f"redis://:secretpw@{NOBODY}?database=1",
        f"rediss://:secretpw@{NOBODY}?ssl_cert_reqs=perhaps",
        "redis://:secretpw/more@redis:6379",
        f"redis+raft://:secretpw@{NOBODY}",
        f"redis+cluster://:secretpw@{NOBODY}/1",
        f"redis+cluster://:secretpw@{NOBODY}/service/0",
        f"redis+cluster://:secretpw@{NOBODY},",
        f"redis+cluster://:secretpw@{NOBODY}?database=1",
        f"redis+cluster://:secretpw@{NOBODY}?sentinel_password=x",
        "redis+cluster://:secretpw@one:port",
        f"redis+sentinel://:secretpw@{NOBODY}",
        f"redis+sentinel://:secretpw@{NOBODY}/",
        f"redis+sentinel://:secretpw@{NOBODY}/service/first",
        f"redis+sentinel://:secretpw@{NOBODY}/service/0/0",
        f"redis+sentinel://:secretpw@{NOBODY}/service?database=1",
        f"redis+sentinel://:secretpw@{NOBODY}/service?ssl_cert_reqs=none",
    ],
)
def test_url_no_connection_can_be_made_of_is_refused_at_once(url):
    with pytest.raises(ValueError, match=r"\w") as refused:
        redis_url.connect(url)
    assert "secretpw" not in str(refused.value)


def test_no_url_makes_text_of_bytes_of_vector_or_lengthens_wait():
    told = redis_url.connect(
        f"redis://{NOBODY}?decode_responses=True&socket_timeout=600&max_connections=1&retry=9"
    ).connection_pool.connection_kwargs
    usual = redis_url.connect(f"redis://{NOBODY}").connection_pool.connection_kwargs
    assert told["decode_responses"] is False
    assert told["socket_timeout"] == usual["socket_timeout"]
    assert type(told["retry"]) is type(usual["retry"])


@pytest.mark.parametrize(
    "url",
    [
        f"redis://{NOBODY}/0?health_check_interval=30&client_name=shop",
        f"rediss://{NOBODY}/0?ssl_cert_reqs=required",
        "unix:///nowhere/redis.sock",
        f"redis+cluster://{NOBODY},{NOBODY}",
        f"rediss+cluster://{NOBODY}/0?ssl_ca_certs=/nowhere",
        f"redis+sentinel://{NOBODY},127.0.0.1:2/service",
        f"rediss+sentinel://{NOBODY}/service/3?ssl_cert_reqs=none",
        "redis://a..b",
    ],
)
def test_url_that_nobody_answers_at_is_store_that_is_away(url):
    with pytest.raises(errors.StoreAway):
        generations(url)


def test_sentinels_and_server_they_name_have_each_their_own_password():
    client: Any = redis_url.connect(
        "rediss+sentinel://shop:p%40w@one,[fd00::1]:7/embeddings/3"
        "?sentinel_username=guard&sentinel_password=other&ssl_ca_certs=/ca.pem"
    )
    pool = client.connection_pool
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("embeddings", 3)
    assert pool.connection_kwargs["username"] == "shop"
    assert pool.connection_kwargs["password"] == "p@w"
    sentinels = [it.connection_pool.connection_kwargs for it in pool.sentinel_manager.sentinels]
    assert [(it["host"], it["port"]) for it in sentinels] == [("one", 26379), ("fd00::1", 7)]
    for it in sentinels:
        assert (it["username"], it["password"], it["ssl_ca_certs"]) == ("guard", "other", "/ca.pem")


def test_cluster_is_entered_by_any_of_its_nodes():
    client: Any = redis_url.connect("rediss+cluster://shop:pw@one,two:7?ssl_ca_certs=/ca.pem")
    assert [(it.host, it.port) for it in client.startup_nodes] == [("one", 6379), ("two", 7)]
    told = client.get_connection_kwargs()
    assert (told["username"], told["password"]) == ("shop", "pw")
    assert told["ssl_ca_certs"] == "/ca.pem"
    assert told["decode_responses"] is False


class Slow:
    """A Redis that answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.let = asyncio.Event()
        self.under_way: list[asyncio.Task[None]] = []

    def read(self, keys, into, over):
        self.asked.append(list(keys))
        self.begin(self.answer(keys, into), over)

    def write(self, values, over):
        self.asked.append(list(values))
        self.begin(self.let.wait(), over)

    async def remove(self, keys):
        self.asked.append(list(keys))

    def begin(self, work, over):
        task = asyncio.ensure_future(work)
        task.add_done_callback(
            lambda it: over(asyncio.CancelledError() if it.cancelled() else it.exception())
        )
        self.under_way.append(task)

    async def answer(self, keys, into):
        await self.let.wait()
        into.update(dict.fromkeys(keys, b"x"))

    async def close(self):
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)


def over(nodes, use, *, budget_seconds=20.0, **more):
    """The outcome of `use(store)` over these nodes."""

    async def whole():
        client = redis_url.connect(f"redis://{NOBODY}")
        store = awaited.RedisCache(client, scope="shop", budget_seconds=budget_seconds, **more)
        store._nodes = nodes
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def test_reads_of_one_turn_go_together_with_equal_keys_once():
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        first = await asyncio.gather(store.read(["a", "b"]), store.read(["b", "c"]))
        return first, await store.read(["a"])

    assert over(nodes, use) == ([[b"x", b"x"], [b"x", b"x"]], [b"x"])
    assert nodes.asked == [["a", "b", "c"], ["a"]]


def test_writes_are_gathered_for_some_time_unless_they_are_many():
    nodes = Slow()
    nodes.let.set()
    many = {f"{number}": b"" for number in range(redis_nodes.FEW)}

    async def use(store):
        for key in "ab":
            store.keep({key: b""}, ttl_seconds=1, done=lambda _: None)
            await asyncio.sleep(0)
        assert nodes.asked == []
        await asyncio.sleep(4 * redis_cache.GATHER_SECONDS)
        assert nodes.asked == [["a", "b"]]
        store.keep(many, ttl_seconds=1, done=lambda _: None)
        assert nodes.asked == [["a", "b"], list(many)]

    over(nodes, use)
    assert len(nodes.asked) == 2


def test_gathered_write_precedes_read_of_its_key():
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        store.keep({"a": b"", "b": b""}, ttl_seconds=1, done=lambda _: None)
        await store.read(["c"])
        assert nodes.asked == [["c"]]
        await store.read(["b", "d"])

    over(nodes, use)
    assert nodes.asked == [["c"], ["a", "b"], ["b", "d"]]


def test_gathered_write_of_removed_key_is_dropped():
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        store.keep({"a": b"", "b": b""}, ttl_seconds=1, done=lambda _: None)
        await store.remove(["a"])

    over(nodes, use)
    assert nodes.asked == [["a"], ["b"]]


def test_closing_writes_what_was_gathered():
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        store.keep({"a": b""}, ttl_seconds=1, done=lambda _: None)

    over(nodes, use)
    assert nodes.asked == [["a"]]


def test_writes_of_one_turn_go_together():
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        await asyncio.gather(
            store.write({"a": b"1"}, ttl_seconds=1), store.write({"b": b"2"}, ttl_seconds=2)
        )

    over(nodes, use)
    assert nodes.asked == [["a", "b"]]


def test_request_that_goes_away_takes_nobody_along():
    nodes = Slow()

    async def use(store):
        gone = asyncio.ensure_future(store.read(["a"]))
        stays = asyncio.ensure_future(store.read(["a", "b"]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        nodes.let.set()
        return await stays, gone.cancelled()

    assert over(nodes, use) == ([b"x", b"x"], True)
    assert nodes.asked == [["a", "b"]]


def test_timeout_ends_waiting_and_not_command():
    nodes = Slow()

    async def use(store):
        waiting = asyncio.gather(store.read(["a"]), store.read(["b"]), return_exceptions=True)
        outcomes = await waiting
        under_way = len(store._outstanding.owed)
        nodes.let.set()
        return outcomes, under_way

    outcomes, under_way = over(nodes, use, budget_seconds=0.01)
    assert [type(it) for it in outcomes] == [errors.StoreAway] * 2
    assert under_way == 1


def test_redis_that_owes_too_many_answers_is_not_asked_for_more():
    nodes = Slow()

    async def use(store):
        waiting = []
        for number in range(100):
            waiting.append(asyncio.ensure_future(store.read([str(number)])))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        done, pending = await asyncio.wait(waiting, timeout=0.1)
        for it in done:
            with pytest.raises(errors.StoreAway):
                it.result()
        nodes.let.set()
        await asyncio.wait(pending)
        return len(done), len(nodes.asked)

    assert over(nodes, use) == (36, 64)


def test_answer_that_came_while_event_loop_stood_still_is_in_time():
    asked = asyncio.Event()

    class Answered(Slow):
        async def answer(self, keys, into):
            asked.set()
            # As a connection does: what has come by now is read, then parsed.
            await asyncio.sleep(0.15)
            await asyncio.sleep(0)
            into.update(dict.fromkeys(keys, b"x"))

    async def use(store):
        waiting = asyncio.ensure_future(store.read(["a"]))
        await asked.wait()
        time.sleep(0.3)  # noqa: ASYNC251 - the whole point
        return await waiting

    assert over(Answered(), use, budget_seconds=0.1) == [b"x"]


def test_waiting_reader_is_released_on_close():
    async def use(store):
        waiting = asyncio.ensure_future(store.read(["a"]))
        # Asked, then sent, and not begun.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(errors.StoreAway):
            await waiting

    over(Slow(), use)


def test_values_that_came_in_time_are_not_lost_with_late_ones():
    class HalfGone(Slow):
        async def answer(self, keys, into):
            into[keys[0]] = b"x"
            await self.let.wait()

    async def use(store):
        return await asyncio.gather(
            store.read(["a", "b"]), store.read(["b"]), return_exceptions=True
        )

    first, second = over(HalfGone(), use, budget_seconds=0.01)
    assert first == [b"x", None]
    assert isinstance(second, errors.StoreAway)


def test_failing_callback_takes_answer_from_no_other(caplog):
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        told: list[object] = []

        def fail(values):
            raise RuntimeError("of no use to me")

        store.fetch(["a"], fail)
        store.fetch(["a"], told.append)
        store.keep({"a": b"1"}, ttl_seconds=1, done=fail)
        store.keep({"b": b"2"}, ttl_seconds=1, done=told.append)
        await store.read(["c"])
        await store.write({"c": b"3"}, ttl_seconds=1)
        return told

    assert over(nodes, use) == [[b"x"], None]
    assert caplog.text.count("could not be used") == 2


def test_callback_is_called_once():
    nodes = Slow()

    async def use(store):
        read: list[object] = []
        written: list[object] = []
        store.fetch(["a"], read.append)
        store.keep({"a": b"1"}, ttl_seconds=1, done=written.append)
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])
        await asyncio.sleep(0.05)
        nodes.let.set()
        await asyncio.sleep(0.05)
        return read, written

    read, written = over(nodes, use, budget_seconds=0.01, management_budget_seconds=0.01)
    assert [type(it) for it in read + written] == [errors.StoreAway] * 2


def test_write_that_was_given_up_is_held_until_it_is_over():
    nodes = Slow()

    async def use(store):
        outcomes = []
        for key in "ab":
            with contextlib.suppress(errors.StoreAway):
                await store.write({key: b"12345"}, ttl_seconds=1)
                outcomes.append(key)
        nodes.let.set()
        await asyncio.sleep(0.05)
        await store.write({"c": b"12345"}, ttl_seconds=1)
        return outcomes

    bounds = {"management_budget_seconds": 0.02, "max_writing_bytes": 9}
    assert over(nodes, use, **bounds) == []
    assert nodes.asked == [["a"], ["c"]]


def test_answer_is_gone_once_it_is_used():
    """Without waiting for a collection of garbage: a turn may hold many vectors."""
    nodes = Slow()
    nodes.let.set()

    async def use(store):
        await asyncio.gather(
            store.read(["a"]), store.read(["b"]), store.write({"a": b"1"}, ttl_seconds=1)
        )
        nodes.under_way.clear()
        await asyncio.sleep(0)
        return [it for it in gc.get_objects() if isinstance(it, redis_cache._Batch)]

    gc.collect()
    gc.disable()
    try:
        assert over(nodes, use) == []
    finally:
        gc.enable()
