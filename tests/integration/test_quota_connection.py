"""Claims over a pipelined connection: each gets its own answer or none, and is soon decided."""

import asyncio
import contextlib

import pytest
import uvloop

from embedding_sidecar import errors
from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.periods import DAY_SECONDS
from embedding_sidecar.redis_client import redis_url
from tests.contract.test_quota_store import ask, opened
from tests.parts import ports, sidecar, strange_redis

pytestmark = pytest.mark.integration

NAMED = "claims-under-test"
SHORT = 0.2


def run(url, use):
    """The outcome of `use(store)`, the store closed afterwards."""

    async def whole():
        async with opened(redis_url.connect(url)) as store:
            return await use(store)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def named(server) -> str:
    return f"{server.url}?client_name={NAMED}"


def connections(asked) -> set[str]:
    return {it["id"] for it in asked.client_list() if it["name"] == NAMED}


def test_claims_go_over_one_connection_that_is_kept_until_end(server, asked):
    async def use(store):
        counts = [await store.claim(ask(sequence)) for sequence in range(1, 20)]
        return counts[-1].held, connections(asked)

    held, kept = run(named(server), use)
    assert held == Amounts(6)
    assert len(kept) == 1
    sidecar.wait_until(lambda: not connections(asked))


def test_script_that_redis_has_lost_is_sent_again_and_carried_out_once(server, asked):
    async def use(store):
        await store.claim(ask(1))
        asked.script_flush()
        return await store.claim(ask(2, floor=Amounts(6)))

    count = run(named(server), use)
    assert (count.held, count.revision) == (Amounts(11), 2)


def test_connection_that_redis_closed_while_idle_is_made_anew(server, asked):
    async def use(store):
        await store.claim(ask(1))
        (number,) = connections(asked)
        asked.client_kill_filter(_id=number)
        return await store.claim(ask(2))

    assert run(named(server), use).revision == 2


def test_server_that_became_replica_is_left_for_master(server, asked):
    async def use(store):
        await store.claim(ask(1))
        before = connections(asked)
        asked.replicaof("127.0.0.1", ports.free())
        try:
            with pytest.raises(errors.StoreAway, match="READONLY"):
                await store.claim(ask(2))
        finally:
            asked.replicaof("NO", "ONE")
        count = await store.claim(ask(3))
        return before & connections(asked), count.held

    assert run(named(server), use) == (set(), Amounts(6))


# --- servers that are no Redis, or a strange one


def count_of(sequence: int) -> bytes:
    """What the script replies to a claim of this number: sixteen calls are held."""
    words = [sequence, 20_000, DAY_SECONDS * 1000, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0]
    numbers = b"".join(b":%d\r\n" % it for it in words)
    return b"*16\r\n%b$1\r\ni\r\n:1\r\n:0\r\n" % numbers


async def counting(words) -> bytes:
    """A Redis that grants all it is asked for."""
    return count_of(int(words[5]))


def before(strange, use):
    """The outcome of `use(store)` at this server."""

    async def whole():
        async with (
            asyncio.timeout(20),
            strange.serving() as url,
            opened(redis_url.connect(url)) as store,
        ):
            return await use(store)

    return asyncio.run(whole())


def test_connection_that_ends_under_claim_is_made_anew_for_it():
    async def ending(words):
        raise ConnectionError

    strange = strange_redis.Strange(ending, counting)

    async def use(store):
        return await store.claim(ask(1))

    assert before(strange, use).held == Amounts(16)
    assert strange.accepted == 2


def test_server_that_ends_every_connection_is_away():
    async def ending(words):
        raise ConnectionError

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.claim(ask(1))

    strange = strange_redis.Strange(*[ending] * 9)
    before(strange, use)
    assert strange.accepted == 2


def test_silent_server_is_away_and_its_late_reply_is_dropped(monkeypatch):
    monkeypatch.setattr(quota_store, "BUDGET_SECONDS", SHORT)
    let = asyncio.Event()

    async def slow(words):
        if words[5] == b"1":
            await let.wait()
        return await counting(words)

    strange = strange_redis.Strange(slow)

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.claim(ask(1))
        let.set()
        monkeypatch.setattr(quota_store, "BUDGET_SECONDS", 20)
        return await store.claim(ask(2))

    # A count of the first claim would be refused as one of another.
    assert before(strange, use).held == Amounts(16)
    assert strange.accepted == 1


def test_abandoned_claim_neither_gets_nor_takes_answer_of_another():
    let = asyncio.Event()

    async def slow(words):
        await let.wait()
        return await counting(words)

    async def use(store):
        first = asyncio.ensure_future(store.claim(ask(1)))
        await asyncio.sleep(0.05)
        first.cancel()
        second = asyncio.ensure_future(store.claim(ask(2)))
        await asyncio.sleep(0)
        let.set()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        return first.cancelled(), (await second).held

    assert before(strange_redis.Strange(slow), use) == (True, Amounts(16))


@pytest.mark.parametrize(
    "lie",
    [b":5\r\n", b"$-1\r\n", b"*-1\r\n", b"*1\r\n:1\r\n", count_of(7), b"\0\xff"],
    ids=["a number", "nothing", "no list", "a short list", "another's count", "no Redis"],
)
def test_reply_of_other_shape_is_dropped_with_its_connection(lie):
    honest = asyncio.Event()

    async def lying(words):
        return await counting(words) if honest.is_set() else lie

    strange = strange_redis.Strange(*[lying] * 3)

    async def use(store):
        with pytest.raises(errors.StoreAway):
            await store.claim(ask(1))
        honest.set()
        return strange.accepted, await store.claim(ask(2))

    lied, count = before(strange, use)
    assert count.held == Amounts(16)
    assert strange.accepted == lied + 1
