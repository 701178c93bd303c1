"""A Redis that sends more than was requested counts as away, and its bytes are dropped."""

import asyncio

import pytest
import uvloop

from embedding_sidecar import errors
from embedding_sidecar.cache import redis_nodes
from embedding_sidecar.redis_client import redis_url
from tests.parts import awaited, raw_server

PIECE = b"x" * 65_536
PATIENT_SECONDS = 20.0


class Liar:
    """Greets as a Redis, and answers `command` with a start and a piece without end."""

    def __init__(self, command, start, piece=PIECE):
        self._command, self._start, self._piece = command, start, piece
        self.sent_bytes = 0

    async def handle(self, reader, writer):
        got = b""
        while more := await reader.read(65_536):
            got += more
            if self._command in got:
                writer.write(self._start)
                while self._piece and self.sent_bytes < 64 * 2**20:
                    writer.write(self._piece)
                    await writer.drain()
                    self.sent_bytes += len(self._piece)
                await asyncio.sleep(PATIENT_SECONDS)
                return
            # To what redis-py says first; and generations are counted before they are read.
            writer.write(b":1\r\n" if b"HLEN" in got else b"+OK\r\n" * got.count(b"*"))
            got = b""


def connected(url):
    return redis_url.connect(url.replace("http", "redis").removesuffix("v1") + "0?protocol=2")


def asked(liar, use):
    async def whole():
        async with raw_server.served(liar.handle) as url:
            client = connected(url)
            store = awaited.RedisCache(client, scope="s", budget_seconds=PATIENT_SECONDS)
            try:
                return await use(store)
            finally:
                await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


@pytest.mark.parametrize(
    "start",
    [
        b"*1\r\n$999999999\r\n",
        b"*2\r\n$1\r\na\r\n$999999999\r\n",
        b"-ERR ",
        b"*1\r\n*1\r\n$999999999\r\n",
    ],
    ids=["one value", "the second value", "a refusal", "deeper"],
)
def test_answer_longer_than_its_keys_can_have_is_dropped(start):
    liar = Liar(b"MGET", start)

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.read(["a", "b"])

    asked(liar, use)
    assert liar.sent_bytes < 2 * redis_nodes.MAX_VALUE_BYTES + 8 * 2**20


def test_announced_list_without_end_is_dropped():
    liar = Liar(b"MGET", b"*4000000000\r\n", b"")

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])

    asked(liar, use)


def test_generations_without_end_are_dropped():
    liar = Liar(b"HGETALL", b"*2\r\n$1\r\na\r\n$999999999\r\n")

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.generations.generations()
        # What is still under way goes on in the background until the bound ends it.
        for _ in range(int(PATIENT_SECONDS / 0.05)):
            if not store._outstanding.owed:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it is read on and on")

    asked(liar, use)
    assert liar.sent_bytes < 4 * redis_url._MAX_REPLY_BYTES


def test_value_beyond_size_limit_is_not_kept():
    kept: list[BaseException | None] = []

    async def use(store):
        store.keep({"a": b"x" * (redis_nodes.MAX_VALUE_BYTES + 1)}, ttl_seconds=1, done=kept.append)

    asked(Liar(b"never", b""), use)
    ((failure),) = kept
    assert "too long" in str(failure)


def test_values_that_are_long_only_together_are_sent():
    liar = Liar(b"never", b"")
    value = b"x" * (redis_nodes.MAX_VALUE_BYTES // 2 + 1)
    kept: list[BaseException | None] = []

    async def use(store):
        store.keep({"a": value, "b": value}, ttl_seconds=1, done=kept.append)
        assert not kept

    asked(liar, use)


def test_replies_that_pay_for_themselves_pass_whatever_their_number():
    """A pipeline to a node of a Cluster: each reply is a value."""
    value = b"$%d\r\n%b\r\n" % (2**16, b"v" * 2**16)
    count = 2 * redis_url._MAX_REPLY_BYTES // 2**16

    async def handle(reader, writer):
        got = b""
        while more := await reader.read(65_536):
            got += more
            if got.count(b"GET") == count:
                writer.write(value * count)
                await writer.drain()
                got = b""
            elif b"GET" not in got:
                writer.write(b"+OK\r\n" * got.count(b"*"))
                got = b""

    async def whole():
        async with raw_server.served(handle) as url:
            client = connected(url)
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(count):
                    pipeline.get(str(number))
                values = await pipeline.execute()
            await client.aclose()
            return values

    assert asyncio.run(whole()) == [b"v" * 2**16] * count
