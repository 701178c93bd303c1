"""What is under way: found by its keys, and ended by nobody who only waits for it."""

import asyncio

import pytest

from embedding_sidecar import errors
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import flights
from tests.parts import virtual_time

ENTRY = cache.Entry(model="m", space="s", vector=b"1234", tokens=1, made_at=0.0)
FAR = 10**6
BROUGHT = flights.Landing(entries={"k": ENTRY}, tokens=1)
FAILED = flights.Landing(failure=errors.Unreachable("timeout", billed=True))


@pytest.fixture
def loop():
    return virtual_time.Loop()


@pytest.fixture
def flying(loop):
    return flights.Flights(clock=loop.time)


def begin(flying, *, landing=BROUGHT, seconds=1.0, shared=True, key="k"):
    async def make():
        await asyncio.sleep(seconds)
        if flight.brought is None:
            flying.land(flight, landing)
            flying.kept(flight)

    flight = flights.Flight(provider="p", keys=[key], shared=shared)
    flying.follow(flight)
    task = asyncio.create_task(make())
    flight.cancel = task.cancel
    return flight


async def wait(flying, *waited_for, ends_at=FAR):
    await flights.Waiter(waited_for).wait(now=flying._clock(), ends_at=ends_at)


def test_a_flight_is_found_until_it_lands_and_by_who_began_to_look_before(loop, flying):
    async def run():
        flight = begin(flying)
        assert flying.find("k", since=0.5) is flight
        assert flying.find("other", since=0.5) is None
        await wait(flying, flight)
        assert flight.landing() == BROUGHT
        assert flying.find("k", since=0.5) is flight
        assert flying.find("k", since=1.5) is None
        await asyncio.sleep(flights.KEPT_SECONDS)
        assert flying.find("k", since=0.5) is None

    loop.run_until_complete(run())


def test_not_more_is_kept_of_flights_that_landed_than_there_is_room_for(loop, flying):
    large = ENTRY._replace(vector=bytes(flights.MAX_KEPT_BYTES // 2))

    async def run():
        for key in ("a", "b", "c"):
            brought = flights.Landing(entries={key: large}, tokens=1)
            await wait(flying, begin(flying, landing=brought, seconds=0.1, key=key))
        assert [bool(flying.find(key, since=0.0)) for key in "abc"] == [False, True, True]
        # One that is larger than all the room is not kept, and drives nobody out.
        huge = flights.Landing(entries={"d": ENTRY._replace(vector=large.vector * 3)}, tokens=1)
        await wait(flying, begin(flying, landing=huge, seconds=0.1, key="d"))
        await wait(flying, begin(flying, seconds=0.1))
        assert [bool(flying.find(key, since=0.0)) for key in "bcdk"] == [False, True, False, True]
        await asyncio.sleep(2 * flights.KEPT_SECONDS)
        assert flying.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_what_nobody_may_find_takes_no_room(loop, flying):
    brought = flights.Landing(entries={"k": ENTRY}, tokens=1)

    async def run():
        await wait(flying, begin(flying, landing=brought, shared=False))
        return len(flying._landed)

    assert loop.run_until_complete(run()) == 0


def test_nothing_is_begun_after_the_end(loop, flying):
    async def run():
        await flying.close()
        flight = flights.Flight(provider="p", keys=["k"])
        flying.follow(flight)
        await wait(flying, flight)
        return flight.landing()

    landing = loop.run_until_complete(run())
    assert landing is not None
    assert landing.failure is not None


def test_what_has_landed_and_is_not_kept_yet_is_found_by_everybody(loop, flying):
    """The cache does not have it yet: a request that asks the cache now would buy it again."""

    async def run():
        flight = flights.Flight(provider="p", keys=["k"])
        flying.follow(flight)
        flying.land(flight, BROUGHT)
        assert flying.find("k", since=FAR) is flight
        await wait(flying, flight)
        flying.kept(flight)
        assert flying.find("k", since=FAR) is None
        assert flying.find("k", since=loop.time()) is flight

    loop.run_until_complete(run())


def test_a_fault_is_raised_for_all_who_wait_and_told(loop, flying, caplog):
    async def run():
        flight = flights.Flight(provider="p", keys=["k"])
        flying.follow(flight)
        waiting = asyncio.create_task(wait(flying, flight))
        await asyncio.sleep(0)
        flying.land(flight, ZeroDivisionError())
        await waiting
        with pytest.raises(ZeroDivisionError):
            flight.landing()
        assert flying.find("k", since=0.0) is None

    loop.run_until_complete(run())
    assert "ZeroDivisionError" in caplog.text


def test_a_failed_flight_is_not_found_again(loop, flying):
    async def run():
        flight = begin(flying, landing=FAILED)
        await wait(flying, flight)
        assert flying.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_a_newer_flight_takes_the_keys_over_and_keeps_them(loop, flying):
    async def run():
        older, newer = begin(flying, landing=FAILED, seconds=1), begin(flying, seconds=5)
        await wait(flying, older)
        assert flying.find("k", since=0.0) is newer

    loop.run_until_complete(run())


def test_what_is_not_shared_is_not_found(loop, flying):
    async def run():
        begin(flying, shared=False)
        assert flying.find("k", since=0.0) is None

    loop.run_until_complete(run())


def test_who_waits_may_leave_or_lose_patience_and_the_flight_lands(loop, flying):
    async def run():
        flight = begin(flying)
        waiting = asyncio.create_task(wait(flying, flight))
        await asyncio.sleep(0.1)
        assert len(flight.waiting) == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not flight.waiting
        await wait(flying, flight, ends_at=loop.time() + 0.1)
        assert flight.landing() is None
        await asyncio.sleep(1)
        assert flight.landing() == BROUGHT

    loop.run_until_complete(run())


def test_closing_ends_what_is_under_way_and_says_so_to_who_waits(loop, flying):
    async def run():
        flight = begin(flying)
        waiting = asyncio.create_task(wait(flying, flight))
        await asyncio.sleep(0.1)
        await flying.close()
        await waiting
        landing = flight.landing()
        assert landing is not None
        assert isinstance(landing.failure, errors.Unreachable)
        assert (landing.failure.reason, landing.failure.billed) == ("cancelled", True)
        assert flying.find("k", since=0.0) is None

    loop.run_until_complete(run())
