"""Those who wait for a claim: whatever is granted, and whoever leaves, nobody is served before who
came before and needs no more."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.quotas.claims import Amounts
from embedding_sidecar.quotas.leases import Reservation
from embedding_sidecar.quotas.line import Line, Outcome

JOIN = st.tuples(st.just("join"), st.integers(min_value=1, max_value=5))
LEAVE = st.tuples(st.just("leave"), st.integers(min_value=0, max_value=30))
GRANT = st.tuples(st.just("grant"), st.integers(min_value=0, max_value=20))


@given(st.lists(JOIN | LEAVE | GRANT, max_size=40))
def test_a_line_serves_in_order_all_for_whom_there_is_enough(steps):
    async def scenario():
        line = Line()
        joined: list[asyncio.Future[Outcome]] = []
        served: list[int] = []
        made: dict[int, Reservation] = {}
        granted = 0

        def serve(amounts):
            nonlocal granted
            if amounts.tokens > granted:
                return None
            granted -= amounts.tokens
            served.append(amounts.calls)
            made[amounts.calls] = Reservation(amounts.calls, amounts, 0)
            return made[amounts.calls]

        for step, number in steps:
            if step == "join":
                joined.append(line.join(Amounts(len(joined), number)))
            elif step == "leave" and joined:
                joined[number % len(joined)].cancel()
            elif step == "grant":
                granted, before = number, len(served)
                line.serve(serve)
                assert served[before:] == sorted(served[before:])
                waiting = [index for index, told in enumerate(joined) if not told.done()]
                first = line.first()
                assert ([] if first is None else [first.calls]) == waiting[:1]
        told = [index for index, it in enumerate(joined) if it.done() and not it.cancelled()]
        assert told == sorted(served)
        assert [joined[index].result() for index in told] == [made[index] for index in told]

    asyncio.run(scenario())
