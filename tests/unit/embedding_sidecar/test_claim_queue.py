"""The claim queue against a plain list: any grants and refusals, and callers that leave."""

import asyncio
import functools

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from embedding_sidecar.quota.claim_queue import ClaimQueue, Outcome, Waiter
from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.leases import Reservation

NEEDS = st.integers(min_value=1, max_value=5)


class Queue(RuleBasedStateMachine):
    """A line, and whoever should be in it, by number."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.line = ClaimQueue()
        self.joined = 0
        self.waiting: dict[int, Waiter] = {}
        self.told: list[tuple[int, bool]] = []
        self.expected: list[tuple[int, bool]] = []

    def teardown(self):
        self.loop.close()

    def run(self, use, *arguments):
        async def whole():
            use(*arguments)
            # What is told, is told in the next turn.
            await asyncio.sleep(0)

        self.loop.run_until_complete(whole())

    def tell(self, number: int, outcome: Outcome) -> None:
        self.told.append((number, isinstance(outcome, Reservation)))

    @rule(tokens=NEEDS)
    def one_joins(self, tokens):
        told = functools.partial(self.tell, self.joined)
        self.waiting[self.joined] = self.line.join(Amounts(1, tokens), told)
        self.joined += 1

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(min_value=0))
    def one_leaves(self, which):
        number = list(self.waiting)[which % len(self.waiting)]
        self.waiting.pop(number).is_gone = True

    @rule(tokens=st.integers(min_value=0, max_value=20))
    def some_are_served_from_the_head(self, tokens):
        left = tokens

        def outcome(amounts: Amounts) -> Outcome | None:
            nonlocal left
            if amounts.tokens > left:
                return None
            left -= amounts.tokens
            return Reservation(0, amounts, 0)

        self.run(self.line.serve, outcome)
        for number, waiter in list(self.waiting.items()):
            if waiter.amounts.tokens > tokens:
                break
            tokens -= waiter.amounts.tokens
            self.expect(number, served=True)

    @rule(tokens=NEEDS)
    def whoever_needs_as_much_is_sent_away(self, tokens):
        def outcome(amounts: Amounts) -> Outcome | None:
            return RuntimeError("refused") if amounts.tokens >= tokens else None

        self.run(self.line.sift, outcome)
        for number, waiter in list(self.waiting.items()):
            if waiter.amounts.tokens >= tokens:
                self.expect(number, served=False)

    def expect(self, number: int, *, served: bool) -> None:
        del self.waiting[number]
        self.expected.append((number, served))

    @invariant()
    def each_is_told_what_becomes_of_him_in_order_and_once(self):
        assert self.told == self.expected

    @invariant()
    def the_next_is_the_first_who_still_waits(self):
        first = next(iter(self.waiting.values()), None)
        assert self.line.first() == (None if first is None else first.amounts)


TestQueue = Queue.TestCase
