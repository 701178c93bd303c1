"""In-flight calls: found by their keys, and not ended by a caller that only waits."""

import asyncio

import pytest

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.engine import inflight
from tests.parts import virtual_time

ENTRY = cache_entry.Entry(model="m", space="s", vector=b"1234", tokens=1, made_at=0.0)
FAR = 10**6
BROUGHT = inflight.CallResult(entries={"k": ENTRY}, tokens=1)
FAILED = inflight.CallResult(failure=errors.Unreachable("timeout", billed=True))


@pytest.fixture
def loop():
    return virtual_time.Loop()


@pytest.fixture
def registry(loop):
    return inflight.InflightCalls(clock=loop.time)


def begin(registry, *, result=BROUGHT, seconds=1.0, shared=True, key="k"):
    async def make():
        await asyncio.sleep(seconds)
        if inflight_call.brought is None:
            registry.complete(inflight_call, result)
            registry.kept(inflight_call)

    inflight_call = inflight.InflightCall(provider="p", keys=[key], shared=shared)
    registry.follow(inflight_call)
    task = asyncio.create_task(make())
    inflight_call.cancel = task.cancel
    return inflight_call


async def wait(registry, *waited_for, ends_at=FAR):
    await inflight.Waiter([], waited_for, ends_at=ends_at).wait(clock=registry._clock)


def test_call_is_found_until_it_completes_and_by_earlier_lookers(loop, registry):
    async def run():
        inflight_call = begin(registry)
        assert registry.find("k", since=0.5) is inflight_call
        assert registry.find("other", since=0.5) is None
        await wait(registry, inflight_call)
        assert inflight_call.result() == BROUGHT
        assert registry.find("k", since=0.5) is inflight_call
        assert registry.find("k", since=1.5) is None
        await asyncio.sleep(inflight.KEPT_SECONDS)
        assert registry.find("k", since=0.5) is None

    loop.run_until_complete(run())


def test_completed_calls_are_kept_within_bytes_and_seconds(loop, registry):
    large = ENTRY._replace(vector=bytes(inflight.MAX_KEPT_BYTES // 2))

    async def run():
        for key in ("a", "b", "c"):
            brought = inflight.CallResult(entries={key: large}, tokens=1)
            await wait(registry, begin(registry, result=brought, seconds=0.1, key=key))
        assert [bool(registry.find(key, since=0.0)) for key in "abc"] == [False, True, True]
        # One that is larger than all the room is not kept, and drives nobody out.
        huge = inflight.CallResult(entries={"d": ENTRY._replace(vector=large.vector * 3)}, tokens=1)
        await wait(registry, begin(registry, result=huge, seconds=0.1, key="d"))
        await wait(registry, begin(registry, seconds=0.1))
        assert [bool(registry.find(key, since=0.0)) for key in "bcdk"] == [False, True, False, True]
        await asyncio.sleep(2 * inflight.KEPT_SECONDS)
        assert registry.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_unshared_result_takes_no_memory(loop, registry):
    brought = inflight.CallResult(entries={"k": ENTRY}, tokens=1)

    async def run():
        await wait(registry, begin(registry, result=brought, shared=False))
        return len(registry._completed)

    assert loop.run_until_complete(run()) == 0


def test_call_is_not_begun_after_close(loop, registry):
    async def run():
        await registry.close()
        inflight_call = inflight.InflightCall(provider="p", keys=["k"])
        registry.follow(inflight_call)
        await wait(registry, inflight_call)
        return inflight_call.result()

    result = loop.run_until_complete(run())
    assert result is not None
    assert result.failure is not None


def test_completed_call_is_found_until_its_vectors_are_kept(loop, registry):
    """The cache does not have it yet: a request that asks the cache now would buy it again."""

    async def run():
        inflight_call = inflight.InflightCall(provider="p", keys=["k"])
        registry.follow(inflight_call)
        registry.complete(inflight_call, BROUGHT)
        assert registry.find("k", since=FAR) is inflight_call
        await wait(registry, inflight_call)
        registry.kept(inflight_call)
        assert registry.find("k", since=FAR) is None
        assert registry.find("k", since=loop.time()) is inflight_call

    loop.run_until_complete(run())


def test_fault_is_raised_for_all_who_wait_and_told(loop, registry, caplog):
    async def run():
        inflight_call = inflight.InflightCall(provider="p", keys=["k"])
        registry.follow(inflight_call)
        waiting = asyncio.create_task(wait(registry, inflight_call))
        await asyncio.sleep(0)
        registry.complete(inflight_call, ZeroDivisionError())
        await waiting
        with pytest.raises(ZeroDivisionError):
            inflight_call.result()
        assert registry.find("k", since=0.0) is None

    loop.run_until_complete(run())
    assert "ZeroDivisionError" in caplog.text


def test_failed_call_is_not_found_again(loop, registry):
    async def run():
        inflight_call = begin(registry, result=FAILED)
        await wait(registry, inflight_call)
        assert registry.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_newer_call_takes_keys_over_and_keeps_them(loop, registry):
    async def run():
        older, newer = begin(registry, result=FAILED, seconds=1), begin(registry, seconds=5)
        await wait(registry, older)
        assert registry.find("k", since=0.0) is newer

    loop.run_until_complete(run())


def test_unshared_call_is_not_found(loop, registry):
    async def run():
        begin(registry, shared=False)
        assert registry.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_call_completes_though_waiter_leaves_or_times_out(loop, registry):
    async def run():
        inflight_call = begin(registry)
        waiting = asyncio.create_task(wait(registry, inflight_call))
        await asyncio.sleep(0.1)
        assert len(inflight_call.waiting) == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not inflight_call.waiting
        await wait(registry, inflight_call, ends_at=loop.time() + 0.1)
        assert inflight_call.result() is None
        await asyncio.sleep(1)
        assert inflight_call.result() == BROUGHT

    loop.run_until_complete(run())


def test_closing_ends_what_is_under_way_and_says_so_to_who_waits(loop, registry):
    async def run():
        inflight_call = begin(registry)
        waiting = asyncio.create_task(wait(registry, inflight_call))
        await asyncio.sleep(0.1)
        await registry.close()
        await waiting
        result = inflight_call.result()
        assert result is not None
        assert isinstance(result.failure, errors.Unreachable)
        assert (result.failure.reason, result.failure.billed) == ("cancelled", True)
        assert registry.find("k", since=0.0) is None

    loop.run_until_complete(run())
