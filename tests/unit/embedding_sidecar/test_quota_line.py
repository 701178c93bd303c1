"""Those who wait for a claim: whatever is granted, and whoever leaves, nobody is served before who
came before and needs no more."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.quotas.claims import Amounts
from embedding_sidecar.quotas.leases import Reservation
from embedding_sidecar.quotas.line import Line, Outcome, Waiter

JOIN = st.tuples(st.just("join"), st.integers(min_value=1, max_value=5))
LEAVE = st.tuples(st.just("leave"), st.integers(min_value=0, max_value=30))
GRANT = st.tuples(st.just("grant"), st.integers(min_value=0, max_value=20))


@given(st.lists(JOIN | LEAVE | GRANT, max_size=40))
def test_a_line_serves_in_order_as_far_as_there_is_enough(steps):
    async def scenario():
        line = Line()
        joined: list[Waiter] = []
        served: list[int] = []
        gone: set[int] = set()
        told: list[Outcome] = []
        granted = 0

        def serve(amounts):
            nonlocal granted
            if amounts.tokens > granted:
                return None
            granted -= amounts.tokens
            served.append(amounts.calls)
            return Reservation(amounts.calls, amounts, 0)

        for step, number in steps:
            if step == "join":
                joined.append(line.join(Amounts(len(joined), number), told.append))
            elif step == "leave" and joined:
                leaving = joined[number % len(joined)]
                leaving.is_gone = True
                gone |= {leaving.amounts.calls} - set(served)
            elif step == "grant":
                granted, before = number, len(served)
                line.serve(serve)
                assert served[before:] == sorted(served[before:])
                assert not gone & set(served)
                await asyncio.sleep(0)
                assert [it.number for it in told if isinstance(it, Reservation)] == served
                waiting = [
                    it.amounts for it in joined if not it.is_gone and it.amounts.calls not in served
                ]
                assert line.first() == (waiting[0] if waiting else None)
                assert not waiting or waiting[0].tokens > granted

    asyncio.run(scenario())
