"""One holder at a time, and no caller gets more than others by asking more."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.queues.fair_lock import FairLock


def served(asking):
    """The order in which parties were served that all asked at once: names and their costs."""

    async def ask_all():
        turns, order = FairLock(), []
        busy = 0

        async def ask(party, cost):
            nonlocal busy
            async with turns.hold(party):
                busy += 1
                assert busy == 1
                await asyncio.sleep(0)
                order.append(party)
                turns.spent(party, cost)
                busy -= 1

        await asyncio.gather(*(ask(*it) for it in asking))
        assert not turns._waiting
        assert not turns._is_taken
        return order

    return asyncio.run(ask_all())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=30))
def test_everybody_is_served_once_for_each_time_they_asked(asking):
    assert sorted(served(asking)) == sorted(party for party, _ in asking)


def test_rare_asker_comes_before_rest_of_frequent_one():
    assert served([("much", 1.0)] * 50 + [("little", 1.0)]).index("little") <= 2


def test_expensive_requests_weigh_more_than_many():
    order = served([("dear", 10.0)] * 5 + [("cheap", 1.0)] * 20)
    assert order[:13].count("dear") <= 3


def test_abandoned_turn_is_passed_on():
    async def cancelled():
        turns = FairLock()
        entered = []

        async def ask(party):
            async with turns.hold(party):
                entered.append(party)

        async def give_up(hold):
            async with turns.hold("a"):
                await hold.wait()
            second.cancel()  # it has been given the turn, and does not know yet

        hold = asyncio.Event()
        first = asyncio.create_task(give_up(hold))
        await asyncio.sleep(0)
        second, third = (asyncio.create_task(ask(it)) for it in "bc")
        await asyncio.sleep(0)
        hold.set()
        await first
        await third
        return entered

    assert asyncio.run(cancelled()) == ["c"]


def test_only_so_many_parties_are_remembered():
    turns = FairLock()
    for number in range(5000):
        turns.spent(str(number), 1.0)
    assert len(turns._spent) <= 1024


def test_one_that_waits_is_remembered_whoever_came_meanwhile():
    async def crowded():
        turns, hold = FairLock(), asyncio.Event()

        async def ask(party, until=None):
            async with turns.hold(party):
                if until is not None:
                    await until.wait()

        first = asyncio.create_task(ask("first", hold))
        await asyncio.sleep(0)
        waits = asyncio.create_task(ask("waits"))
        await asyncio.sleep(0)
        for number in range(5000):
            turns.spent(str(number), 1.0)
        later = asyncio.create_task(ask("later"))
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(first, waits, later)

    asyncio.run(crowded())
