"""Calls that are drawn ahead: how many, for how long, and that no limit is exceeded by them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.rate import rates, stock
from embedding_sidecar.rate.draws import Draws
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.stock import Lot, Stock
from embedding_sidecar.rate.window import Drawn, Need, Terms
from tests.fakes.rate_windows import FakeWindows
from tests.parts import virtual_time

FAR = Terms(calls=10**6, tokens=10**8)
TOKENS = 10
LATER = 100.0 + stock.PERIOD_SECONDS + 1e-9


def answer(*, calls=0, tokens=0, wait_ms=0):
    return Drawn(1, 0, 0, 0, wait_ms, calls, tokens)


def lot(*, calls, tokens=10**6, drawn_at=0.0):
    return Lot(1, 1, drawn_at, calls=calls, tokens=tokens)


def busy(calls, *, terms=FAR, drawn=None):
    """The stock of a pod that has made so many calls in a period."""
    made = Stock()
    made.need(now=100.0)
    made.count([Need(TOKENS)] * calls)
    made.need(now=LATER)
    made.learn(terms, answer() if drawn is None else drawn)
    return made


def ahead(made):
    need = made.need(now=LATER)
    return 0 if need is None else need.calls


def test_calls_of_two_periods_are_drawn_ahead():
    made = busy(50)
    assert made.is_low
    assert made.need(now=LATER) == Need(100 * TOKENS, calls=100)


def test_few_calls_draw_nothing_ahead():
    assert ahead(busy(stock.LEAST_OF_PERIOD - 1)) == 0
    assert not busy(stock.LEAST_OF_PERIOD - 1).is_low


def test_number_drawn_ahead_is_bounded():
    assert ahead(busy(10_000)) == stock.MOST


def test_calls_of_longer_time_count_by_period():
    made = Stock()
    made.need(now=100.0)
    made.count([Need(TOKENS)] * 100)
    made.need(now=100.0 + 5 * stock.PERIOD_SECONDS)
    made.learn(FAR, answer())
    need = made.need(now=100.0 + 5 * stock.PERIOD_SECONDS)
    assert need is not None
    assert need.calls == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("terms", "drawn"),
    [
        (Terms(calls=1_000), answer(calls=500)),
        (Terms(tokens=1_000), answer(tokens=500)),
        (Terms(calls=1_000, tokens=10**9), answer(calls=900)),
        (FAR, answer(wait_ms=1)),
        (Terms(), answer()),
        (FAR._replace(observes=True), answer()),
    ],
    ids=["calls", "tokens", "one of two", "full", "no limit", "observed"],
)
def test_window_near_its_limits_draws_nothing_ahead(terms, drawn):
    assert ahead(busy(100, terms=terms, drawn=drawn)) == 0


def test_small_part_of_free_half_is_drawn_ahead():
    free = 1_000 // stock.FREE_SHARE - 100
    made = busy(100, terms=Terms(calls=1_000), drawn=answer(calls=100))
    assert ahead(made) == free // stock.LEFT_SHARE


def test_stock_is_low_from_half_of_it_on():
    made = busy(50)
    made.put(lot(calls=100))
    assert not made.is_low
    for _ in range(50):
        made.take(TOKENS, now=0.1)
    assert made.is_low
    assert ahead(made) == 50


def test_call_takes_of_lot_that_has_its_tokens():
    made = Stock()
    small, large = lot(calls=2, tokens=5), lot(calls=1, tokens=20)
    made.put(small)
    made.put(large)
    assert made.take(20, now=0.0) is large
    assert made.take(20, now=0.0) is None
    assert made.take(5, now=0.0) is small
    assert made.take(1, now=0.0) is None


def test_lot_is_kept_for_its_time():
    made = Stock()
    made.put(lot(calls=2, tokens=7))
    assert list(made.expired(now=stock.KEPT_SECONDS - 0.001)) == []
    assert made.take(0, now=stock.KEPT_SECONDS) is None
    (rest,) = made.expired(now=stock.KEPT_SECONDS)
    assert (rest.calls, rest.tokens, rest.is_over) == (2, 7, True)
    assert not made


def test_call_that_is_put_back_may_be_taken_while_lot_is_kept():
    made = Stock()
    made.put(lot(calls=1, tokens=10))
    taken = made.take(10, now=0.0)
    assert taken is not None
    assert made.take(4, now=0.0) is None
    assert made.put_back(taken, calls=1, tokens=10)
    assert made.take(4, now=0.0) is taken
    list(made.expired(now=stock.KEPT_SECONDS))
    assert not made.put_back(taken, calls=0, tokens=6)


def test_cleared_stock_is_over():
    made = busy(50)
    held = lot(calls=5)
    made.put(held)
    made.clear()
    assert not made
    assert not made.is_low
    assert made.take(0, now=0.0) is None
    assert not made.put_back(held, calls=1, tokens=0)


# --- with a window


class World:
    """Pods whose calls come at a steady pace, each answered after a time, in virtual time."""

    def __init__(self, *terms, pods=1):
        self.loop = virtual_time.Loop()
        self.store = FakeWindows(self.loop.time, seconds=0.002)
        self.queues = [
            [
                Draws(Place(f"key{at}", self.store, it, may_go_alone=False), clock=self.loop.time)
                for at, it in enumerate(terms)
            ]
            for _ in range(pods)
        ]
        self.rates = [rates.ProviderRate(them, clock=self.loop.time) for them in self.queues]
        self.sent: list[tuple[float, int]] = []
        self.permits = 0
        self.refused: list[BaseException] = []

    def call(self, rate, *, drawn, billed, answer_seconds):
        """One call, as the engine makes it."""

        def send(passage):
            self.sent.append((self.loop.time(), billed))
            self.loop.call_later(answer_seconds, lambda: passage.settle(tokens=billed))

        def told(outcome):
            if isinstance(outcome, BaseException):
                self.refused.append(outcome)
            else:
                send(outcome)

        permit = rate.take(tokens=drawn)
        if permit is not None:
            self.permits += 1
            send(permit)
            return
        rate.draw(
            tokens=drawn,
            background=False,
            waits_until=self.loop.time() + 3_600,
            is_wanted=lambda: True,
            observed=lambda *_: None,
            told=told,
        )

    def run(self, seconds, *, a_second=0.0, drawn=TOKENS, billed=TOKENS, answer_seconds=0.05):
        async def whole():
            end = self.loop.time() + seconds
            while self.loop.time() < end:
                if not a_second:
                    await asyncio.sleep(end - self.loop.time())
                    break
                for rate in self.rates:
                    self.call(rate, drawn=drawn, billed=billed, answer_seconds=answer_seconds)
                await asyncio.sleep(1 / a_second)

        self.loop.run_until_complete(whole())

    def end(self):
        async def closed():
            for them in self.queues:
                for queue in them:
                    await queue.close()

        self.loop.run_until_complete(closed())

    def counted(self, key="key0"):
        """Calls and tokens that the window counts."""
        window = self.store.windows[key]
        return window._calls, window._tokens

    def most_in_a_minute(self):
        most_calls = most_tokens = start = tokens = 0
        for end, (at, billed) in enumerate(self.sent):
            tokens += billed
            while self.sent[start][0] <= at - 60:
                tokens -= self.sent[start][1]
                start += 1
            most_calls, most_tokens = max(most_calls, end + 1 - start), max(most_tokens, tokens)
        return most_calls, most_tokens


@pytest.fixture
def world_of():
    made = []

    def of(*terms, pods=1):
        made.append(World(*terms, pods=pods))
        return made[-1]

    yield of
    for world in made:
        world.end()


def test_most_calls_of_busy_pod_need_no_message(world_of):
    world = world_of(FAR)
    world.run(5, a_second=1_000)
    assert world.permits > 0.9 * len(world.sent)
    assert len(world.store.messages) < len(world.sent) / 20


def test_calls_of_quiet_pod_are_drawn_one_by_one(world_of):
    world = world_of(FAR)
    world.run(20, a_second=5, billed=TOKENS)
    assert world.permits == 0
    assert len(world.store.messages) == len(world.sent)


def test_calls_that_were_not_sent_are_given_back_soon(world_of):
    world = world_of(FAR)
    world.run(5, a_second=1_000, billed=4)
    world.run(1)
    assert world.counted() == (len(world.sent), 4 * len(world.sent))
    before = len(world.store.messages)
    world.run(30)
    assert len(world.store.messages) == before


def test_call_is_drawn_ahead_from_both_windows_or_from_neither(world_of):
    world = world_of(FAR, Terms(calls=10_000))
    world.run(5, a_second=500)
    world.run(1)
    assert world.counted("key0")[0] == world.counted("key1")[0] == len(world.sent)


def test_many_busy_pods_keep_limit_and_use_it(world_of):
    world = world_of(Terms(calls=6_000), pods=2)
    world.run(70, a_second=100)
    calls, _ = world.most_in_a_minute()
    assert calls == 6_000
    assert world.permits
    assert not world.refused


def test_store_that_forgets_is_not_asked_without_end(world_of):
    world = world_of(Terms(calls=2_000))
    world.run(4.85, a_second=400)
    world.store.forget()
    world.run(0.1, a_second=400)
    before = len(world.store.messages)
    world.run(2)
    assert len(world.store.messages) - before < 10


def test_calls_drawn_ahead_before_edit_are_not_used_after_it(world_of, monkeypatch):
    world = world_of(FAR)
    (queue,) = world.queues[0]
    draw, edited = world.store.draw, []

    async def edit_meanwhile(message):
        drawn = await draw(message)
        if message.needs and message.needs[-1].calls > 1:
            queue.obey(queue._place._replace(terms=Terms(calls=1)))
            edited.append(message)
        return drawn

    monkeypatch.setattr(world.store, "draw", edit_meanwhile)
    world.run(0.5, a_second=1_000)
    assert len(edited) == 1
    assert world.permits == 0


@given(
    a_second=st.integers(50, 400),
    drawn=st.integers(1, 30),
    share=st.floats(0, 1),
    calls=st.integers(100, 5_000),
    tokens=st.integers(1_000, 50_000),
)
def test_no_minute_has_more_than_limits(a_second, drawn, share, calls, tokens):
    world = World(Terms(calls=calls, tokens=tokens), pods=2)
    try:
        world.run(5, a_second=a_second, drawn=drawn, billed=int(share * drawn))
        most_calls, most_tokens = world.most_in_a_minute()
        assert most_calls <= calls
        assert most_tokens <= tokens
        assert not world.refused
    finally:
        world.end()
