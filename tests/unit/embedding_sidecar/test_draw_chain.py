"""Draws for one call: all are made, or those that were are given back once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.quota.chain import Chain, Link


class Counter:
    """Answers at once, or when it is told to; has what was drawn and not given back."""

    def __init__(self, *, waits: bool, refuses: bool) -> None:
        self.waits, self.refuses = waits, refuses
        self.held: list[object] = []
        self.asked = self.given_back = 0
        self.answer: Any = None

    def link(self) -> Link:
        return Link(self.draw, self.give_back)

    def draw(self, done):
        self.asked += 1

        def answer():
            if self.refuses:
                done(ValueError("used up"))
            else:
                self.held.append(self)
                done(self)

        if not self.waits:
            answer()
            return None
        self.answer = answer
        return lambda: None

    def give_back(self, it):
        self.given_back += 1
        self.held.remove(it)


COUNTERS = st.lists(
    st.builds(lambda waits, refuses: Counter(waits=waits, refuses=refuses), *[st.booleans()] * 2),
    min_size=1,
    max_size=4,
)


@given(counters=COUNTERS)
def test_call_has_all_draws_or_none(counters):
    told: list[object] = []
    leave = Chain([it.link() for it in counters], told.append).start()
    for it in counters:
        if it.answer is not None:
            assert told == []
            it.answer()
    (outcome,) = told
    first = next((at for at, it in enumerate(counters) if it.refuses), None)
    assert [it.asked for it in counters] == [
        int(first is None or at <= first) for at in range(len(counters))
    ]
    if first is None:
        assert outcome == counters
        assert all(it.held for it in counters)
    else:
        assert isinstance(outcome, ValueError)
        assert not any(it.held for it in counters)
    if leave is not None:
        leave()
        assert told == [outcome]
    else:
        assert not any(it.waits and it.asked for it in counters)


@given(counters=COUNTERS, answers=st.integers(0, 4), late=st.booleans())
def test_call_that_leaves_gives_back_what_it_drew(counters, answers, late):
    """Also what comes in the loop iteration in which it leaves."""
    told: list[object] = []
    leave = Chain([it.link() for it in counters], told.append).start()
    waiting = [it for it in counters if it.answer is not None]
    for it in waiting[:answers]:
        it.answer()
    if leave is None or told:
        return
    leave()
    current = next(it for it in reversed(counters) if it.asked)
    if late and current.answer is not None and not current.held:
        current.answer()
    assert told == []
    assert not any(it.held for it in counters)


def test_fault_of_later_counter_gives_earlier_draws_back():
    first = Counter(waits=False, refuses=False)

    def fails(_):
        raise OSError("no counter")

    chain = Chain([first.link(), Link(fails, first.give_back)], lambda _: None)
    with pytest.raises(OSError, match="no counter"):
        chain.start()
    assert (first.held, first.given_back) == ([], 1)
