"""Requests whose provider has limits per minute, in virtual time."""

import asyncio

import pytest

from embedding_sidecar import errors
from embedding_sidecar.engine.provider_states import ProviderStates
from embedding_sidecar.engine.service import Timing
from embedding_sidecar.rate.window import WINDOW_MS, Drawn, Terms
from tests.fakes import provider as stand_in
from tests.parts.world import World, ask, one

REQUEST_SECONDS = Timing().request_seconds
MINUTE = WINDOW_MS / 1000
LONG = Timing(request_seconds=200.0)


@pytest.fixture
def made():
    """Worlds, whose tasks are ended."""
    worlds = []

    def make(*providers, **rest):
        worlds.append(World(*providers, **rest))
        return worlds[-1]

    yield make
    for world in worlds:
        tasks = asyncio.all_tasks(world.loop)
        for task in tasks:
            task.cancel()
        world.run(asyncio.sleep(0))


def timed(world, *batches, background=False):
    """What each of several requests gets, and the seconds that it took."""

    async def one_of(items):
        began = world.loop.time()
        try:
            came = await world.service.embed(ask(*items), background=background)
        except errors.Refused as refused:
            came = refused
        return came, world.loop.time() - began

    async def all_of_them():
        return await asyncio.gather(*[one_of(items) for items in batches])

    return world.run(all_of_them())


def counted(world, key="p/0"):
    """Calls and tokens that the window counts now."""
    now_ms = int(world.loop.time() * 1000)
    found = world.windows.windows[key].draw([], Terms(), now_ms=now_ms)
    return found.calls, found.tokens


def test_miss_without_rate_draws_nothing(made):
    world = made(one("p"), rates=None)
    world.embed("a")
    assert world.windows.messages == []


def test_provider_without_rate_beside_one_with_it_draws_nothing(made):
    world = made(one("p"), one("q", model="n"), rates={"q": Terms(calls=1)})
    world.embed("a")
    assert world.windows.messages == []


def test_hit_draws_nothing(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    world.embed("a")
    assert world.embed("a").hits == 1
    assert len(world.windows.messages) == 1


def test_lone_provider_is_waited_for_until_minute_is_over(made):
    world = made(one("p"), rates={"p": Terms(calls=2)}, timing=LONG)
    came = timed(world, ["a"], ["b"], ["c"])
    assert [answer.attempts for answer, _ in came] == [1, 1, 1]
    assert [took > MINUTE - 1 for _, took in came] == [False, False, True]


def test_request_is_refused_when_its_time_is_over_with_true_retry_after(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    (_, first), (refused, took) = timed(world, ["a"], ["b"])
    assert first < 1
    assert took == pytest.approx(REQUEST_SECONDS)
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_seconds == pytest.approx(MINUTE - REQUEST_SECONDS, abs=0.6)
    assert refused.attempts == 0


def test_refused_request_gives_its_day_back_and_no_call_is_made(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    left = world.quota.left
    timed(world, ["a"], ["b"])
    # The call that waits notices within a second that nobody waits for it.
    world.run(asyncio.sleep(1.5))
    assert world.quota.left == left - 1
    assert len(world.quota.settled) == 2
    assert world.asked("p") == [["a"]]
    assert counted(world)[0] == 1
    assert world.seen.rates_refused == ["p"]


def test_breaker_takes_no_notice_of_own_rate(made):
    states = ProviderStates()
    world = made(one("p"), rates={"p": Terms(calls=1)}, states=states)
    timed(world, ["a"], ["b"], ["c"], ["d"], ["e"])
    assert not states.breaker.anything
    assert world.seen.errors == []


def test_callers_are_served_in_order(made):
    world = made(one("p"), rates={"p": Terms(calls=2)}, timing=LONG)

    async def in_turn():
        waiting = []
        for item in "abcdefg":
            waiting.append(asyncio.ensure_future(world.service.embed(ask(item))))
            await asyncio.sleep(0.01)
        await asyncio.gather(*waiting)

    world.run(in_turn())
    assert world.asked("p") == [[item] for item in "abcdefg"]


def test_call_s_own_time_begins_when_it_is_sent(made):
    world = made(
        one("p"),
        rates={"p": Terms(calls=1)},
        timing=Timing(attempt_seconds=5.0, request_seconds=100.0),
    )
    world.net["p"].delay_seconds = 4.0
    came = timed(world, ["a"], ["b"])
    assert [answer.attempts for answer, _ in came] == [1, 1]


def test_second_provider_is_asked_at_once_where_wait_is_longer_than_half(made):
    world = made(one("p", space="s"), one("q", space="s"), rates={"p": Terms(calls=1)})
    came = timed(world, ["a"], ["b"])
    assert [answer.provider for answer, _ in came] == ["p", "q"]
    assert came[1][1] < 1


def test_caller_waits_at_most_half_while_second_provider_can_answer(made):
    world = made(one("p", space="s"), one("q", space="s"), rates={"p": Terms(calls=1)})

    async def full_for_a_second(message):
        return Drawn(int(world.loop.time() * 1000), 0, 0, 0, 1_000, 1, 0)

    world.windows.draw = full_for_a_second
    ((answer, took),) = timed(world, ["b"])
    assert answer.provider == "q"
    assert took == pytest.approx(REQUEST_SECONDS / 2, abs=0.1)


def test_call_that_waited_its_half_has_time_of_its_own(made):
    timing = Timing(attempt_seconds=30.0, request_seconds=130.0)
    world = made(
        one("p", space="s"), one("q", space="s"), rates={"p": Terms(calls=1)}, timing=timing
    )
    world.net["p"].delay_seconds = 10.0
    came = timed(world, ["a"], ["b"])
    # It waited 61 of 65 s, and its call took 10.
    assert [answer.provider for answer, _ in came] == ["p", "p"]


def test_full_provider_is_waited_for_where_second_one_fails(made):
    world = made(one("p", space="s"), one("q", space="s"), rates={"p": Terms(calls=1)})
    world.net["q"].fault = stand_in.status(401)
    (_, _), (refused, took) = timed(world, ["a"], ["b"])
    assert took == pytest.approx(REQUEST_SECONDS)
    assert len(world.asked("q")) == 1
    assert isinstance(refused, errors.Unavailable)


def test_two_full_providers_are_waited_for_without_busy_loop(made):
    world = made(
        one("p", space="s"),
        one("q", space="s"),
        rates={"p": Terms(calls=1), "q": Terms(calls=1)},
    )
    *_, (refused, took) = timed(world, ["a"], ["b"], ["c"])
    assert took == pytest.approx(REQUEST_SECONDS)
    assert refused.code == "rate_limit_exceeded"
    assert len(world.windows.messages) < 200


def test_tokens_are_settled_to_billed_ones(made):
    world = made(one("p"), rates={"p": Terms(tokens=1_000)})
    answer = world.embed("one two three")
    world.run(asyncio.sleep(1))
    assert counted(world) == (1, answer.tokens)
    assert world.quota.reserved[0] > answer.tokens


@pytest.mark.parametrize("usage", [{}, {"total_tokens": None}, {"total_tokens": -5}])
def test_answer_without_usable_usage_keeps_bound(made, usage):
    world = made(one("p"), rates={"p": Terms(tokens=1_000)})
    world.net["p"].fault = lambda it: (it[0], it[1], {**it[2], "usage": usage})
    world.embed("one two three")
    world.run(asyncio.sleep(1))
    assert counted(world) == (1, world.quota.reserved[0])


def test_usage_beyond_bound_draws_no_more(made):
    world = made(one("p"), rates={"p": Terms(tokens=1_000)})
    world.net["p"].fault = lambda it: (
        it[0],
        it[1],
        {**it[2], "usage": {"prompt_tokens": 10**9, "total_tokens": 10**9}},
    )
    world.embed("one two three")
    world.run(asyncio.sleep(1))
    assert counted(world) == (1, world.quota.reserved[0])


def test_failed_call_stays_counted(made):
    world = made(one("p"), rates={"p": Terms(calls=10, tokens=1_000)})
    world.net["p"].fault = stand_in.status(400)
    world.refusal("a")
    world.run(asyncio.sleep(1))
    assert counted(world) == (1, world.quota.reserved[0])


def test_each_request_of_retry_is_drawn(made):
    world = made(one("p"), rates={"p": Terms(calls=10)})
    world.net["p"].fault = stand_in.status(500)
    world.refusal("a")
    assert counted(world)[0] == len(world.asked("p")) == 3


def test_large_request_is_split_to_fit_minute(made):
    world = made(one("p"), rates={"p": Terms(tokens=60)})
    world.service._timing = LONG
    world.embed("a" * 20, "b" * 20, "c" * 20)
    assert all(len(batch) <= 2 for batch in world.asked("p"))
    assert len(world.asked("p")) == 2


def test_item_larger_than_minute_is_refused_and_says_why(made):
    world = made(one("p"), rates={"p": Terms(tokens=60)})
    refused = world.refusal("a" * 100)
    assert (refused.status, refused.param) == (400, "input")
    assert "60 tokens" in refused.message
    assert world.asked("p") == []


def test_item_larger_than_minute_is_for_second_provider(made):
    world = made(one("p", space="s"), one("q", space="s"), rates={"p": Terms(tokens=60)})
    assert world.embed("a" * 100).provider == "q"


def test_background_batch_that_only_whole_minute_holds_is_split(made):
    rate = Terms(tokens=100, reserved_percent=20)
    world = made(one("p"), rates={"p": rate}, timing=LONG)
    # Both have 100 tokens at most: they fit applications' minute, and not background's.
    ((answer, took),) = timed(world, ["a" * 42, "b" * 42], background=True)
    assert (answer.attempts, took < LONG.request_seconds) == (2, True)


def test_background_item_above_its_part_of_minute_is_refused_at_once(made):
    world = made(one("p"), rates={"p": Terms(tokens=100, reserved_percent=20)}, timing=LONG)
    ((refused, took),) = timed(world, ["a" * 80], background=True)
    assert (refused.status, took < 1) == (400, True)
    ((answer, _),) = timed(world, ["a" * 80])
    assert answer.attempts == 1


def test_background_leaves_reserve_of_minute(made):
    world = made(one("p"), rates={"p": Terms(calls=5, reserved_percent=40)})
    came = timed(world, *[[item] for item in "abcde"], background=True)
    assert [isinstance(it, errors.Refused) for it, _ in came] == [False] * 3 + [True] * 2
    assert world.embed("z").attempts == 1


def test_end_of_process_leaves_queue_and_draws_nothing_more(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    left = world.quota.left

    async def ended_while_one_waits():
        asked = [asyncio.ensure_future(world.service.embed(ask(item))) for item in "ab"]
        await asyncio.sleep(1)
        await world.registry.close()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(2 * MINUTE)

    world.run(ended_while_one_waits())
    assert counted(world)[0] == 0
    assert world.quota.left == left - 1


def test_call_that_ends_while_it_is_drawn_for_is_given_back(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    world.windows.seconds = 0.5

    async def ended_meanwhile():
        asked = asyncio.ensure_future(world.service.embed(ask("a")))
        await asyncio.sleep(0.3)
        await world.registry.close()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.sleep(2)

    world.run(ended_meanwhile())
    assert counted(world)[0] == 0


def test_class_after_policy_gives_policy_s_window_back(made):
    world = made(one("p"), rates={"p": [Terms(calls=10), Terms(calls=1)]})
    timed(world, ["a"], ["b"])
    world.run(asyncio.sleep(1.5))
    assert counted(world, "p/0")[0] == 1
    assert counted(world, "p/1")[0] == 1


def test_joined_request_with_later_end_is_served(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})

    async def run():
        first = asyncio.ensure_future(world.service.embed(ask("a")))
        gone = asyncio.ensure_future(world.service.embed(ask("b")))
        await asyncio.sleep(30)
        joined = asyncio.ensure_future(world.service.embed(ask("b")))
        return await asyncio.gather(first, gone, joined, return_exceptions=True)

    _, refused, joined = world.run(run())
    assert isinstance(refused, errors.Unavailable)
    assert joined.coalesced == 1
    assert world.asked("p") == [["a"], ["b"]]


def test_observing_delays_and_refuses_nothing_and_tells(made):
    world = made(one("p"), rates={"p": Terms(calls=1, observes=True)})
    world.net["p"].delay_seconds = 0.01
    came = timed(world, ["a"], ["b"], ["c"])
    assert max(took for _, took in came) < 0.1
    assert [answer.beyond for answer, _ in came] == [
        frozenset(),
        frozenset({"minute.requests"}),
        frozenset({"minute.requests"}),
    ]
    assert world.seen.beyond == [("minute", "requests")] * 2


def test_redis_that_is_away_refuses_under_deny(made):
    world = made(one("p"), rates={"p": Terms(calls=1)})
    left = world.quota.left
    world.windows.fault = errors.StoreAway("TimeoutError")
    refused = world.refusal("a")
    assert (refused.status, refused.code) == (503, "quota_store_unavailable")
    assert world.quota.left == left


def test_wait_is_told_to_metrics_and_is_no_overhead(made):
    world = made(one("p"), rates={"p": Terms(calls=1)}, timing=LONG)
    came = timed(world, ["a"], ["b"])
    assert all(took - answer.upstream_seconds < 0.1 for answer, took in came)
    (_, first), (_, second) = world.seen.waits
    assert first < 0.1
    assert second == pytest.approx(MINUTE, abs=0.6)


def test_call_that_is_sent_last_and_fails_is_not_provider_s_fault(made):
    timing = Timing(request_seconds=MINUTE + 0.7)
    states = ProviderStates()
    world = made(one("p"), rates={"p": Terms(calls=1)}, timing=timing, states=states)
    world.embed("a")
    world.net["p"].delay_seconds = 10.0
    world.refusal("b")
    world.run(asyncio.sleep(2))
    assert len(world.asked("p")) == 2
    assert not states.breaker.anything


USED_UP = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "12s",
}


def answers_with(headers):
    return lambda it: (it[0], {**it[1], **headers}, it[2])


def test_provider_that_says_nothing_remains_is_not_asked_until_reset(made):
    world = made(one("p"))
    world.net["p"].fault = answers_with(USED_UP)
    world.embed("a")
    world.net["p"].fault = None
    came = timed(world, ["b"], ["c"])
    assert [answer.attempts for answer, _ in came] == [1, 1]
    assert all(12 <= took < 13 for _, took in came)
    assert world.windows.messages == []
    ((_, took),) = timed(world, ["d"])
    assert took < 0.1


def test_second_provider_answers_while_first_says_nothing_remains(made):
    world = made(one("p", space="s"), one("q", space="s"))
    world.net["p"].fault = answers_with({**USED_UP, "x-ratelimit-reset-requests": "40s"})
    world.embed("a")
    ((answer, took),) = timed(world, ["b"])
    assert (answer.provider, took < 0.1) == ("q", True)


def test_policy_s_own_rate_comes_before_what_answers_say(made):
    world = made(one("p"), rates={"p": Terms(calls=10)})
    world.net["p"].fault = answers_with(USED_UP)
    world.embed("a")
    ((_, took),) = timed(world, ["b"])
    assert took < 0.1


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-1"},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "12s"},
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "12s"},
        {**USED_UP, "x-ratelimit-limit-requests": "0"},
        {**USED_UP, "x-ratelimit-limit-requests": "-1"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"},
    ],
)
def test_headers_that_say_nothing_hold_nothing(made, headers):
    world = made(one("p"))
    world.net["p"].fault = answers_with(headers)
    world.embed("a")
    ((_, took),) = timed(world, ["b"])
    assert took < 0.1


def test_learned_rate_is_forgotten_with_key_and_provider():
    states = ProviderStates()
    document = World(one("p")).document
    for _ in range(2):
        states.follow(document, {"p": "one"}, now=0.0)
        states.used_up("p", 12.0, clock=lambda: 0.0)
        states.follow(document, {"p": "one"}, now=0.0)
        assert "p" in states.rates
        states.follow(document, {"p": "two"}, now=0.0)
        assert "p" not in states.rates
        states.used_up("p", 12.0, clock=lambda: 0.0)
    other = World(one("p", model="m"), namespace="other").document
    states.follow(other, {"p": "two"}, now=0.0)
    assert "p" not in states.rates


def test_busy_pod_makes_most_calls_without_message_and_counts_each(made):
    world = made(one("p"), rates={"p": Terms(calls=10**6, tokens=10**9)})
    billed = 0
    for number in range(40):
        came = timed(world, *([f"{number}-{it}"] for it in range(25)))
        assert all(answer.attempts == 1 for answer, _ in came)
        billed += sum(answer.tokens for answer, _ in came)
    assert len(world.windows.messages) < 200
    assert len(world.asked("p")) == 1_000
    world.run(asyncio.sleep(1))
    assert counted(world) == (1_000, billed)


def test_background_work_takes_nothing_that_was_drawn_ahead(made):
    world = made(one("p"), rates={"p": Terms(calls=10**6)})
    for number in range(20):
        timed(world, *([f"{number}-{it}"] for it in range(25)))
    before = len(world.windows.messages)
    timed(world, ["an application's"])
    assert len(world.windows.messages) == before
    timed(world, ["a background worker's"], background=True)
    assert len(world.windows.messages) == before + 1
