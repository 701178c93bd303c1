"""The calls of a pod that wait for a limit per minute, in virtual time."""

import asyncio
import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_contract import class_keys
from embedding_sidecar import errors
from embedding_sidecar.rate import draws, rates
from embedding_sidecar.rate.draws import Draws
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.window import BUCKET_MS, FRESH_MS, WINDOW_MS, Need, Terms
from tests.fakes.rate_windows import FakeWindows
from tests.parts import virtual_time

KEY = "key"
CYCLE = (WINDOW_MS + BUCKET_MS) / 1000
"""The longest time after which what was drawn is free again, in seconds."""


WORLDS: "list[World]" = []


@pytest.fixture(autouse=True)
def _ended():
    yield
    end_worlds()


def end_worlds() -> None:
    while WORLDS:
        WORLDS.pop().end()


@dataclass
class Pod:
    """The rate of one provider in one pod, and when which call was sent or refused."""

    clock: virtual_time.Loop
    rate: rates.ProviderRate
    queues: list[Draws]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    refused: list[tuple[float, int, BaseException]] = field(default_factory=list)
    passages: dict[int, rates.Passage] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)
    unwanted: set[int] = field(default_factory=set)

    def call(self, *, tokens=1, background=False, within=math.inf, number=None) -> int:
        at = next(self.numbers) if number is None else number

        def told(outcome):
            if isinstance(outcome, BaseException):
                self.refused.append((self.clock.time(), at, outcome))
            else:
                self.sent.append((self.clock.time(), at, tokens))

        self.passages[at] = self.rate.draw(
            tokens=tokens,
            background=background,
            waits_until=self.clock.time() + within,
            is_wanted=lambda: at not in self.unwanted,
            observed=lambda _, unit: self.beyond.append(unit),
            told=told,
        )
        return at

    @property
    def order(self) -> list[int]:
        return [number for _, number, _ in self.sent]


class World:
    def __init__(self, *, seconds=0.001) -> None:
        self.loop = virtual_time.Loop()
        self.store = FakeWindows(self.loop.time, seconds=seconds)
        WORLDS.append(self)

    def end(self) -> None:
        """Cancel the tasks that still draw."""

        async def cancelled():
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(cancelled())

    def pod(self, *terms: Terms, shared=True, may_go_alone=False) -> Pod:
        store = self.store if shared else None
        places = [
            Place(f"{KEY}{at}", store, it, may_go_alone=may_go_alone or not shared)
            for at, it in enumerate(terms)
        ]
        queues = [Draws(place, clock=self.loop.time) for place in places]
        return Pod(self.loop, rates.ProviderRate(queues, clock=self.loop.time), queues)

    def run(self, act, *, seconds: float) -> None:
        async def whole():
            act()
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(whole())


@pytest.fixture
def world():
    return World()


def calls(pod: Pod, count: int, **more):
    return lambda: [pod.call(**more) for _ in range(count)]


def most_in_a_minute(sent: list[tuple[float, int, int]], *, seconds: float = 60.0):
    """The most calls, and the most tokens, that were sent in any window of a minute."""
    most_calls = most_tokens = 0
    for end, _, _ in sent:
        inside = [it for it in sent if end - seconds < it[0] <= end]
        most_calls = max(most_calls, len(inside))
        most_tokens = max(most_tokens, sum(tokens for _, _, tokens in inside))
    return most_calls, most_tokens


def test_calls_within_limit_go_at_once_by_one_message(world):
    pod = world.pod(Terms(calls=10))
    world.run(calls(pod, 10), seconds=0.1)
    assert len(pod.sent) == 10
    assert len(world.store.messages) == 1


def test_call_beyond_limit_waits_for_window(world):
    pod = world.pod(Terms(calls=3))
    world.run(calls(pod, 5), seconds=CYCLE + 1)
    assert pod.order == [0, 1, 2, 3, 4]
    assert pod.sent[2][0] < 1
    assert WINDOW_MS / 1000 <= pod.sent[3][0] <= CYCLE + 0.01


def test_callers_at_three_times_rate_are_served_in_order_at_full_rate(world):
    # 64 callers, each with the next call as soon as the one before was sent; no call is refused.
    limit, minutes = 60, 10
    pod = world.pod(Terms(calls=limit))

    def told_again(pod: Pod) -> None:
        sent = 0

        async def follow():
            nonlocal sent
            while True:
                await asyncio.sleep(0.33)
                for _ in range(len(pod.sent) - sent):
                    pod.call()
                sent = len(pod.sent)

        follower = asyncio.get_running_loop().create_task(follow())
        pod.clock.call_later(minutes * 60 - 1, follower.cancel)

    def act():
        calls(pod, 64)()
        told_again(pod)

    world.run(act, seconds=minutes * 60)
    assert pod.refused == []
    assert pod.order == sorted(pod.order)
    assert most_in_a_minute(pod.sent)[0] <= limit
    assert len(pod.sent) >= 0.95 * limit * minutes


def test_three_pods_share_rate_and_each_keeps_its_order(world):
    limit, minutes = 60, 10
    pods = [world.pod(Terms(calls=limit)) for _ in range(3)]

    def act():
        for pod in pods:
            calls(pod, 3 * limit * minutes // 3)()

    world.run(act, seconds=minutes * 60)
    sent = sorted(it for pod in pods for it in pod.sent)
    assert all(pod.refused == [] for pod in pods)
    assert all(pod.order == sorted(pod.order) for pod in pods)
    assert most_in_a_minute(sent)[0] <= limit
    assert len(sent) >= 0.95 * limit * minutes


def test_tokens_are_drawn_by_bound_and_rest_is_given_back(world):
    pod = world.pod(Terms(tokens=100))

    world.run(calls(pod, 4, tokens=50), seconds=2)
    assert pod.order == [0, 1]
    # The call was billed for 10 tokens.
    world.run(lambda: pod.passages[0].settle(tokens=10), seconds=0.1)
    assert pod.order == [0, 1]
    world.run(lambda: pod.passages[1].settle(tokens=10), seconds=0.1)
    assert pod.order == [0, 1, 2]
    world.run(lambda: pod.passages[2].settle(tokens=10), seconds=0.1)
    assert pod.order == [0, 1, 2, 3]


def test_tokens_of_other_pod_free_waiting_call_within_look(world):
    one, other = world.pod(Terms(tokens=100)), world.pod(Terms(tokens=100))

    def act():
        one.call(tokens=100)
        one.clock.call_later(0.1, lambda: other.call(tokens=50))
        one.clock.call_later(0.5, lambda: one.passages[0].settle(tokens=1))

    world.run(act, seconds=1 + draws.LOOK_SECONDS + draws.RETURN_SECONDS)
    assert other.order == [0]


def test_rest_is_given_back_by_message_of_its_own(world):
    pod = world.pod(Terms(tokens=100))
    world.run(lambda: pod.call(tokens=100), seconds=0.2)
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=1)
    assert world.store.messages[-1].needs == []
    assert list(world.store.messages[-1].returns.values()) == [(0, 70)]
    world.run(lambda: None, seconds=5)
    assert len(world.store.messages) == 2


def test_calls_without_limit_of_tokens_give_nothing_back(world):
    pod = world.pod(Terms(calls=100))
    world.run(lambda: pod.call(tokens=100), seconds=0.2)
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=5)
    assert len(world.store.messages) == 1


def test_background_comes_after_applications_and_leaves_reserve(world):
    pod = world.pod(Terms(calls=10, reserved_percent=20))

    def act():
        for _ in range(9):
            pod.call(background=True)
        pod.call()
        pod.call()

    world.run(act, seconds=1)
    # Two of applications, then background work up to the reserve: 8 in all.
    assert pod.order == [9, 10, 0, 1, 2, 3, 4, 5]
    world.run(pod.call, seconds=1)
    assert pod.order[-1] == 11


def test_application_goes_before_waiting_background_at_once(world):
    pod = world.pod(Terms(calls=10, reserved_percent=50))
    world.run(calls(pod, 7, background=True), seconds=0.3)
    assert len(pod.sent) == 5
    world.run(pod.call, seconds=0.01)
    assert pod.order[-1] == 7


def test_wait_known_to_be_longer_is_not_begun(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 2), seconds=0.1)
    messages = len(world.store.messages)
    world.run(lambda: pod.call(within=25.0), seconds=0.01)
    ((at, number, failure),) = pod.refused
    assert at < 0.2
    assert number == 2
    assert failure.reason == errors.OWN_RATE
    assert failure.retry_after_seconds == pytest.approx(CYCLE - 0.1, abs=0.7)
    assert len(world.store.messages) == messages


def test_first_that_waits_is_refused_as_soon_as_wait_is_known(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 2, within=25.0), seconds=0.01)
    assert [number for _, number, _ in pod.refused] == [1]


def test_call_that_may_wait_as_long_waits(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 2, within=CYCLE + 1), seconds=CYCLE + 1)
    assert pod.order == [0, 1]


def test_caller_that_leaves_is_passed_over_and_nothing_is_drawn(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 3), seconds=0.1)
    world.run(pod.passages[1].leave, seconds=CYCLE + 1)
    assert pod.order == [0, 2]


def test_caller_that_leaves_while_store_is_asked_gives_back():
    world = World(seconds=0.2)
    pod = world.pod(Terms(calls=1))

    def act():
        pod.call()
        pod.call()
        pod.clock.call_later(0.15, pod.passages[0].leave)

    world.run(act, seconds=1.5)
    assert pod.order == [1]


def test_call_that_was_not_sent_gives_all_back(world):
    pod = world.pod(Terms(calls=1, tokens=10))
    world.run(lambda: pod.call(tokens=10), seconds=0.1)
    world.run(pod.passages[0].leave, seconds=1)
    world.run(lambda: pod.call(tokens=10), seconds=1)
    assert pod.order == [0, 1]


def test_call_that_nobody_wants_is_told_and_not_drawn(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 3), seconds=0.1)
    pod.unwanted.add(1)
    world.run(lambda: None, seconds=CYCLE + 1)
    assert pod.order == [0, 2]
    assert [number for _, number, _ in pod.refused] == [1]


def test_second_window_that_refuses_gives_first_back(world):
    pod = world.pod(Terms(calls=10, tokens=100), Terms(calls=1))
    world.run(calls(pod, 2, tokens=30, within=20.0), seconds=2)
    assert [number for _, number, _ in pod.refused] == [1]
    window = world.store.windows[f"{KEY}0"]
    drawn = window.draw([], Terms(), now_ms=int(world.loop.time() * 1000))
    assert (drawn.calls, drawn.tokens) == (1, 30)


def test_draw_that_waited_for_second_window_is_drawn_again_when_not_fresh(world):
    # The class lets one call go in a minute; what the policy's window drew long before is stale.
    pod = world.pod(Terms(calls=2), Terms(calls=1))
    world.run(calls(pod, 2), seconds=2 * CYCLE + 2)
    assert pod.order == [0, 1]
    window = world.store.windows[f"{KEY}0"]
    now_ms = int(pod.sent[1][0] * 1000) + FRESH_MS
    assert window.draw([], Terms(), now_ms=now_ms).calls == 1


def test_late_answer_is_not_spent_but_drawn_again():
    world = World(seconds=FRESH_MS / 1000 + 0.5)
    pod = world.pod(Terms(calls=9))

    def act():
        calls(pod, 4)()
        # This one comes meanwhile, and has not waited as long.
        pod.clock.call_later(0.5, pod.call)
        pod.clock.call_later(1.6, lambda: setattr(world.store, "seconds", 0.001))

    world.run(act, seconds=5)
    assert all(at > 1.5 for at, _, _ in pod.sent)
    assert pod.order == [0, 1, 2, 3, 4]
    window = world.store.windows[f"{KEY}0"]
    assert window.draw([], Terms(), now_ms=int(world.loop.time() * 1000)).calls == 5


def test_store_that_is_away_refuses_under_deny(world):
    pod = world.pod(Terms(calls=5))
    world.store.fault = errors.StoreAway("TimeoutError")
    world.run(calls(pod, 2), seconds=0.5)
    assert [type(it) for _, _, it in pod.refused] == [errors.Unavailable] * 2
    assert {it.code for _, _, it in pod.refused} == {"quota_store_unavailable"}
    messages = len(world.store.messages)
    world.run(pod.call, seconds=0.1)
    # It is not asked again for a second.
    assert (len(pod.refused), len(world.store.messages)) == (3, messages)
    world.store.fault = None
    world.run(lambda: None, seconds=draws.AWAY_SECONDS)
    world.run(pod.call, seconds=0.1)
    assert pod.order == [3]


def test_store_that_is_away_leaves_pod_its_own_count_under_allow(world):
    pod = world.pod(Terms(calls=3), may_go_alone=True)
    world.run(calls(pod, 2), seconds=0.5)
    world.store.fault = errors.StoreAway("TimeoutError")
    world.run(calls(pod, 2), seconds=0.5)
    assert pod.order == [0, 1, 2]
    world.run(lambda: None, seconds=61)
    assert pod.order == [0, 1, 2, 3]


def test_rest_is_given_back_when_store_is_there_again(world):
    pod = world.pod(Terms(tokens=100))
    world.run(lambda: pod.call(tokens=100), seconds=0.2)
    world.store.fault = errors.StoreAway("TimeoutError")
    world.run(pod.call, seconds=0.2)
    world.store.fault = None
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=5)
    assert world.store.messages[-1].returns == {0: (0, 70)}
    assert pod.queues[0]._serving is None


def test_message_that_failed_is_not_given_back_again(world):
    pod = world.pod(Terms(tokens=100))
    world.run(lambda: pod.call(tokens=100), seconds=0.2)
    world.store.fault = errors.StoreAway("TimeoutError")
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=0.5)
    world.store.fault = None
    world.run(lambda: None, seconds=5)
    world.run(pod.call, seconds=0.2)
    assert [message.returns for message in world.store.messages] == [{}, {0: (0, 70)}, {}]


def test_rest_of_store_that_is_no_longer_used_is_dropped(world):
    pod = world.pod(Terms(tokens=100))
    world.run(lambda: pod.call(tokens=100), seconds=0.2)
    pod.queues[0].release()
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=1)
    assert len(world.store.messages) == 1
    assert pod.queues[0]._serving is None


@pytest.mark.parametrize("seconds", [0.2, 0.0005], ids=["drawn before", "under way"])
def test_draw_of_other_store_is_not_given_back_to_this_one(world, seconds):
    """There it would free what other pods have drawn."""
    pod, other = world.pod(Terms(tokens=100)), FakeWindows(world.loop.time)
    world.run(lambda: pod.call(tokens=100), seconds=seconds)
    pod.queues[0].obey(pod.queues[0]._place._replace(store=other))
    world.run(lambda: None, seconds=0.2)
    world.run(lambda: pod.passages[0].settle(tokens=30), seconds=1)
    assert pod.order == [0]
    assert [it.returns for it in other.messages if it.returns] == []
    world.run(lambda: pod.call(tokens=50), seconds=0.2)
    world.run(lambda: pod.passages[1].settle(tokens=20), seconds=1)
    assert [list(it.returns.values()) for it in other.messages if it.returns] == [[(0, 30)]]


def test_call_that_waited_longer_goes_before(world):
    pod = world.pod(Terms(calls=1))
    world.run(pod.call, seconds=1)
    told: list[draws.Draw | BaseException] = []

    def joined():
        for since in (0.8, 0.2, 0.5):
            draw = draws.Draw(Need(0), told.append, since=since)
            pod.queues[0].join(draw)

    world.run(joined, seconds=3 * CYCLE + 3)
    assert [it.since for it in told if isinstance(it, draws.Draw)] == [0.2, 0.5, 0.8]


def test_pod_without_store_counts_alone(world):
    pod = world.pod(Terms(calls=3), shared=False)
    world.run(calls(pod, 5), seconds=1)
    assert pod.order == [0, 1, 2]
    assert pod.refused == []


def test_store_that_forgot_frees_nothing_that_this_pod_has_drawn(world):
    pod = world.pod(Terms(calls=3))
    world.run(calls(pod, 3), seconds=1)
    world.store.forget()
    world.run(calls(pod, 3), seconds=10)
    assert len(pod.sent) == 3
    world.run(lambda: None, seconds=CYCLE)
    assert most_in_a_minute(pod.sent)[0] == 3
    assert len(pod.sent) == 6


def test_observing_delays_nothing_and_tells_what_was_beyond(world):
    pod = world.pod(Terms(calls=2, observes=True))
    world.run(calls(pod, 4), seconds=0.0)
    assert pod.order == [0, 1, 2, 3]
    world.run(lambda: None, seconds=0.1)
    assert [pod.passages[at].beyond for at in range(4)] == [
        set(),
        set(),
        {"requests"},
        {"requests"},
    ]
    assert pod.beyond == ["requests", "requests"]
    window = world.store.windows[f"{KEY}0"]
    assert window.draw([], Terms(), now_ms=int(world.loop.time() * 1000)).calls == 4


def test_observed_call_that_ends_before_it_is_counted_is_settled_after_it():
    world = World(seconds=0.5)
    pod = world.pod(Terms(tokens=10, observes=True))

    def act():
        pod.call(tokens=30)
        pod.clock.call_soon(lambda: pod.passages[0].settle(tokens=4))

    world.run(act, seconds=2)
    window = world.store.windows[f"{KEY}0"]
    drawn = window.draw([], Terms(), now_ms=int(world.loop.time() * 1000))
    assert (drawn.calls, drawn.tokens) == (1, 4)


def test_observing_and_enforcing_count_alike(world):
    enforcing, observing = World(), World()
    pods = [enforcing.pod(Terms(calls=50, tokens=500))]
    pods.append(observing.pod(Terms(calls=50, tokens=500, observes=True)))
    for it, pod in zip((enforcing, observing), pods, strict=True):
        it.run(calls(pod, 20, tokens=7), seconds=1)
    counted = [
        it.store.windows[f"{KEY}0"].draw([], Terms(), now_ms=int(it.loop.time() * 1000))
        for it in (enforcing, observing)
    ]
    assert counted[0][-2:] == counted[1][-2:] == (20, 140)


def test_store_that_is_away_refuses_nothing_while_observing(world):
    pod = world.pod(Terms(calls=1, observes=True), may_go_alone=True)
    world.store.fault = errors.StoreAway("TimeoutError")
    world.run(calls(pod, 3), seconds=1)
    assert pod.order == [0, 1, 2]


def test_observed_calls_that_are_counted_under_enforcing_ask_store_rarely(world):
    pod = world.pod(Terms(calls=1, observes=True))
    place = Place(f"{KEY}0", world.store, Terms(calls=1), may_go_alone=False)

    def act():
        calls(pod, 3, within=1)()
        pod.queues[0].obey(place)

    # They have gone, and are counted when they fit.
    world.run(act, seconds=30)
    assert pod.order == [0, 1, 2]
    assert len(world.store.messages) < 40


def test_higher_limit_frees_those_that_wait(world):
    pod = world.pod(Terms(calls=1))
    world.run(calls(pod, 3), seconds=0.5)
    place = Place(f"{KEY}0", world.store, Terms(calls=10), may_go_alone=False)
    world.run(lambda: pod.queues[0].obey(place), seconds=0.1)
    assert pod.order == [0, 1, 2]


def test_limit_that_is_gone_frees_those_that_wait(world):
    held = rates.Rates(clock=world.loop.time)
    place = Place(KEY, world.store, Terms(calls=1), may_go_alone=False)
    pod = Pod(world.loop, held.obey({"main": [place]})["main"], [])
    world.run(calls(pod, 3), seconds=0.5)
    assert pod.order == [0]
    assert held.obey({"main": []}) == {}
    world.run(lambda: None, seconds=0.1)
    assert pod.order == [0, 1, 2]


def test_class_s_window_that_policy_drops_frees_nobody(world):
    held = rates.Rates(clock=world.loop.time)
    place = Place(class_keys.window("c"), world.store, Terms(calls=1), may_go_alone=False)
    pod = Pod(world.loop, held.obey({"main": [place]})["main"], [])
    world.run(calls(pod, 3), seconds=0.5)
    assert held.obey({}) == {}
    world.run(lambda: None, seconds=0.5)
    assert pod.order == [0]
    world.run(lambda: None, seconds=2 * CYCLE + 2)
    assert pod.order == [0, 1, 2]


def test_edit_keeps_queue_and_its_order(world):
    held = rates.Rates(clock=world.loop.time)
    place = Place(KEY, world.store, Terms(calls=1), may_go_alone=False)
    pod = Pod(world.loop, held.obey({"main": [place]})["main"], [])
    world.run(calls(pod, 2), seconds=0.5)
    pod.rate = held.obey({"main": [place], "other": [place._replace(key="b")]})["main"]
    world.run(calls(pod, 2), seconds=3 * CYCLE + 3)
    assert pod.order == [0, 1, 2, 3]


def test_fault_of_store_is_told_to_all_that_wait(world):
    pod = world.pod(Terms(calls=1))

    async def fails(message):
        raise RuntimeError(message.key)

    world.store.draw = fails
    said = []
    world.loop.set_exception_handler(lambda _, context: said.append(context))
    world.run(calls(pod, 2), seconds=0.1)
    assert [type(it) for _, _, it in pod.refused] == [RuntimeError] * 2


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 20, allow_nan=False),
        st.sampled_from(
            ["call", "call", "call", "big", "background", "leave", "settle", "away", "lost"]
        ),
        st.integers(0, 2),
        st.integers(0, 50),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, limit=st.integers(1, 8), tokens=st.integers(10, 60))
def test_no_window_of_minute_holds_more_whatever_happens(events, limit, tokens):
    world = World(seconds=0.01)
    terms = Terms(calls=limit, tokens=tokens, reserved_percent=20)
    pods = [world.pod(terms) for _ in range(3)]

    async def whole():
        for passing, what, pod_number, number in events:
            await asyncio.sleep(passing)
            pod = pods[pod_number]
            done = {at for _, at, _ in [*pod.sent, *pod.refused]}
            waits = [at for at in pod.passages if at not in done]
            if what == "leave" and waits:
                pod.passages[waits[number % len(waits)]].leave()
            elif what == "settle" and pod.sent:
                # What it was billed is what the window counts, and no less.
                at = number % len(pod.sent)
                sent_at, of, bound = pod.sent[at]
                pod.passages[of].settle(tokens=bound // 2)
                pod.sent[at] = sent_at, of, max(bound // 2, 0)
            elif what == "away":
                world.store.fault = (
                    None if world.store.fault is not None else errors.StoreAway("TimeoutError")
                )
            elif what == "lost":
                world.store.loses_answers = not world.store.loses_answers
            else:
                pod.call(tokens=10 if what == "big" else 3, background=what == "background")
        world.store.fault, world.store.loses_answers = None, False
        await asyncio.sleep(200)

    world.loop.run_until_complete(whole())
    sent = sorted(it for pod in pods for it in pod.sent)
    most_calls, most_tokens = most_in_a_minute(sent)
    assert most_calls <= limit
    assert most_tokens <= tokens
    for pod in pods:
        ends = {at for _, at, _ in [*pod.sent, *pod.refused]}
        assert len(ends) == len(pod.sent) + len(pod.refused)
    end_worlds()
