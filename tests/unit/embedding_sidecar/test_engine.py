"""Many callers, large batches, providers that fail halfway: the calls made, the vectors kept."""

import asyncio
import json

import pytest

from embedding_sidecar import errors
from embedding_sidecar.engine import breaker, dispatch
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.service import Timing
from embedding_sidecar.openai_format.cache_control import CacheControl
from tests.fakes import provider as stand_in
from tests.fakes.provider import StandIn
from tests.parts.world import Quota, World, ask, one, vectors

DOWN = errors.Unreachable("no_connection", billed=False)
NO_CACHE = CacheControl(no_cache=True)


def two(**more):
    return World(one("p", space="s"), one("q", "n", space="s"), **more)


def fails_on(host, item, fault):
    """The provider fails where it is asked for this item."""
    host.fault = lambda answer: fault(answer) if item in host.calls[-1].body["input"] else answer


# --- flights


def test_text_asked_for_by_many_at_once_goes_upstream_once():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    answers = world.together(*(["a", "b b"] for _ in range(50)))
    assert world.asked("p") == [["a", "b b"]]
    for answer in answers:
        assert isinstance(answer, Answer)
        assert answer.vectors == vectors("m", "a", "b b")
    first, *others = answers
    assert (first.attempts, first.tokens, first.coalesced) == (1, 3, 0)
    assert {(it.attempts, it.tokens, it.coalesced, it.hits) for it in others} == {(0, 0, 2, 0)}
    assert len(world.quota.reserved) == 1


def test_only_what_nobody_brings_yet_is_asked_for():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    first, second = world.together(["a", "b"], ["b", "c", "b"])
    assert world.asked("p") == [["a", "b"], ["c"]]
    assert first.vectors + second.vectors == vectors("m", "a", "b", "b", "c", "b")
    assert (second.coalesced, second.attempts) == (2, 1)


def test_others_are_answered_after_first_caller_leaves():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1

    async def run():
        leaving = asyncio.create_task(world.service.embed(ask("a")))
        await asyncio.sleep(0.1)
        staying = asyncio.create_task(world.service.embed(ask("a")))
        await asyncio.sleep(0.1)
        leaving.cancel()
        return await staying

    assert world.run(run()).vectors == vectors("m", "a")
    assert len(world.net["p"].calls) == 1


def test_parts_that_have_not_begun_are_not_begun_for_nobody():
    world = World(one("p", kind="Voyage"))
    world.net["p"].delay_seconds = 1
    many = [f"text {number}" for number in range(10_000)]
    with pytest.raises(TimeoutError):
        world.run(asyncio.wait_for(world.service.embed(ask(*many)), 0.5))
    world.loop.pass_time(100)
    assert len(world.net["p"].calls) == dispatch.PARTS_AT_ONCE


def test_error_reaches_all_who_waited_and_each_goes_on_to_its_next_choice():
    world = two()
    world.net["p"].fault = DOWN
    world.net["p"].delay_seconds = world.net["q"].delay_seconds = 1
    answers = world.together(*(["a"] for _ in range(20)))
    assert {it.provider for it in answers} == {"q"}
    assert (world.asked("p"), world.asked("q")) == ([["a"]], [["a"]])
    assert world.seen.errors == [("unreachable", "openai")]


def test_another_callers_fault_is_not_mine():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    first, second = world.together(["a", "too long"], ["a"])
    assert isinstance(first, errors.Rejected)
    assert second.vectors == vectors("m", "a")
    assert world.asked("p") == [["a", "too long"], ["a"]]


def test_text_brought_meanwhile_is_not_asked_for_again():
    world = World(one("p"))
    p = world.net["p"]
    p.fault = lambda answer: stand_in.status(500)(answer) if len(p.calls) < 3 else answer

    async def run():
        waiting = asyncio.create_task(world.service.embed(ask("a")))
        await asyncio.sleep(0.6)  # it has failed twice, and waits for a second
        await world.service.embed(ask("a"))
        return await waiting

    answer = world.run(run())
    assert (answer.hits, answer.attempts, len(p.calls)) == (1, 2, 3)


def test_text_brought_during_failing_call_is_not_asked_for_again(
    monkeypatch,
):
    """Two providers of one model: the call that is waited for is of the other one."""
    world = World(one("p", space="s"), one("q", space="s"))
    p = world.net["p"]
    p.key = "sk-other"
    seconds = {"long": 3.0, "short": 0.1, "dead": 0.0}

    async def run():
        async def later(seconds, *texts):
            await asyncio.sleep(seconds)
            return await world.service.embed(ask(*texts))

        async def send(request, *, within_seconds):
            [text] = json.loads(request.body)["input"]
            await asyncio.sleep(seconds[text])
            return await StandIn.send(p, request, within_seconds=within_seconds)

        monkeypatch.setattr(p, "send", send)
        return await asyncio.gather(
            later(0.0, "long"),
            later(0.0, "short"),
            later(0.0, "dead"),
            later(0.05, "short", "long"),
        )

    assert world.run(run())[-1].vectors == vectors("m", "short", "long")
    assert sorted(text for [text] in world.asked("q")) == ["dead", "long", "short"]


# --- batches


def test_batch_is_split_over_limits_and_merged_in_order():
    world = World(one("p", kind="Voyage"))
    many = [f"text {number}" for number in range(2048)]
    answer = world.embed(*many)
    assert answer.vectors == vectors("m", *many)
    assert [len(part) for part in world.asked("p")] == [1000, 1000, 48]
    assert (answer.attempts, len(world.quota.settled), answer.tokens) == (3, 3, 4096)


def test_tokens_are_limit_of_their_own():
    world = World(one("p"))
    large = ["a" * 100_000, "b" * 150_000, "c" * 100_000]
    assert world.embed(*large).vectors == vectors("m", *large)
    assert world.asked("p") == [large[:2], large[2:]]


def test_no_more_than_few_parts_are_under_way_at_once():
    world = World(one("p", kind="Voyage"))
    p = world.net["p"]
    p.delay_seconds = 1
    answer = world.embed(*(f"{number}" for number in range(9001)))
    assert len(p.calls) == 10
    assert answer.upstream_seconds == pytest.approx(3)


def test_partial_failure_is_tried_again_in_its_part_only():
    world = World(one("p", kind="Voyage"))
    p = world.net["p"]
    many = [f"{number}" for number in range(2500)]

    def fault(answer):
        first = "1500" in p.calls[-1].body["input"] and len(p.calls) <= 3
        return stand_in.status(500)(answer) if first else answer

    p.fault = fault
    answer = world.embed(*many)
    assert answer.vectors == vectors("m", *many)
    assert [len(part) for part in world.asked("p")] == [1000, 1000, 500, 1000]
    assert (answer.attempts, answer.hits) == (4, 0)


def test_another_provider_of_space_gets_only_rest():
    world = World(one("p", kind="Voyage", space="s"), one("q", "n", space="s"))
    fails_on(world.net["p"], "1500", stand_in.status(500))
    many = [f"{number}" for number in range(2500)]
    answer = world.embed(*many)
    assert answer.vectors == (
        vectors("m", *many[:1000]) + vectors("n", *many[1000:2000]) + vectors("m", *many[2000:])
    )
    assert world.asked("q") == [many[1000:2000]]
    assert (answer.provider, answer.space) == ("q", "s")


def test_another_space_does_not_get_what_is_paid_for_in_this_one():
    world = World(one("p", kind="Voyage"), one("q", "n"), crossing=True)
    p = world.net["p"]
    p.fault = lambda answer: stand_in.status(500)(answer) if len(p.calls) == 2 else answer
    many = [f"{number}" for number in range(2500)]
    assert world.embed(*many).provider == "p"
    assert world.net["q"].calls == []


def test_texts_are_made_anew_once_first_space_gives_up():
    world = World(one("p", kind="Voyage"), one("q", "n"), crossing=True)
    fails_on(world.net["p"], "1500", stand_in.raw(b"<html>"))
    many = [f"{number}" for number in range(2000)]
    answer = world.embed(*many)
    assert answer.vectors == vectors("n", *many)
    assert (answer.provider, answer.hits, answer.tokens) == ("q", 0, 3000)


def test_finished_parts_are_kept_when_others_fail():
    world = World(one("p", kind="Voyage"))
    fails_on(world.net["p"], "1500", stand_in.raw(b"<html>"))
    many = [f"{number}" for number in range(2500)]
    assert world.refusal(*many).status == 502
    world.net["p"].fault = None
    answer = world.embed(*many)
    assert (answer.hits, answer.attempts) == (1500, 1)


def test_day_that_ends_halfway_is_told_and_what_came_back_is_kept():
    world = World(one("p", kind="Voyage"), quota=Quota(left=2))
    many = [f"{number}" for number in range(2500)]
    assert world.refusal(*many).code == "insufficient_quota"
    assert len(world.net["p"].calls) == 2
    assert world.embed(*many[:2000]).hits == 2000


def test_failure_of_whole_provider_ends_parts_not_yet_begun():
    world = World(one("p", kind="Voyage"), keys={"p": "sk-wrong"})
    world.net["p"].delay_seconds = 1
    assert world.refusal(*(f"{number}" for number in range(10_000))).status == 502
    assert len(world.net["p"].calls) == dispatch.PARTS_AT_ONCE


def test_server_that_takes_less_is_sent_halves_and_remembered():
    world = World(one("p", kind="OpenAICompatible"))
    p = world.net["p"]

    def fault(answer):
        return stand_in.status(413)(answer) if len(p.calls[-1].body["input"]) > 3 else answer

    p.fault = fault
    ten = [f"{number}" for number in range(10)]
    answer = world.embed(*ten)
    assert answer.vectors == vectors("m", *ten)
    assert [len(part) for part in world.asked("p")] == [10, 5, 3, 2, 3, 2]
    assert answer.attempts == 6
    p.calls.clear()
    assert world.embed(*(f"new {number}" for number in range(7))).attempts == 3
    assert sorted(len(part) for part in world.asked("p")) == [1, 3, 3]


def test_text_too_large_alone_is_callers_fault_and_teaches_nothing():
    world = World(one("p", kind="OpenAICompatible"))
    fails_on(world.net["p"], "b", stand_in.status(413))
    assert world.refusal("a", "b", "c", "d").status == 413
    world.net["p"].fault = None
    assert world.embed("w", "x", "y", "z").attempts == 1


def test_provider_names_item_and_caller_finds_it():
    world = World(one("p"))
    world.embed("a")

    def fault(_):
        error = {"message": "'input[1]' is too long", "param": "input[1]", "code": None}
        return 400, {}, {"error": error}

    world.net["p"].fault = fault
    refusal = world.refusal("a", "b", "b", "c")
    assert refusal.param == "input[3]"
    assert refusal.message.startswith("'input[3]' is too long (")
    assert "2 of the 4 items" in refusal.message


# --- failover


def test_time_is_left_for_next_provider():
    world = two(timing=Timing(attempt_seconds=30, request_seconds=10))
    world.net["p"].delay_seconds = 60
    answer = world.embed("a")
    assert (answer.provider, world.loop.time()) == ("q", 5.0)
    assert world.quota.settled[0] == (True, 9)


def test_no_request_takes_longer_than_its_time():
    world = two(timing=Timing(attempt_seconds=30, request_seconds=10))
    world.net["p"].delay_seconds = world.net["q"].delay_seconds = 60
    refusal = world.refusal("a")
    assert (refusal.status, world.loop.time()) == (502, 10.0)
    assert "p: timeout; q: timeout" in refusal.message


def test_dead_key_is_asked_for_once_and_not_by_every_request():
    world = World(
        one("p", space="s"), one("q", "n", space="s"), keys={"p": "sk-old", "q": "sk-old"}
    )
    world.net["q"].key = "sk-old"
    for number in range(10):
        assert world.embed(f"{number}").provider == "q"
    assert len(world.net["p"].calls) == 1
    assert world.seen.errors == [("misconfigured", "openai")]
    assert world.service.health() == {"p": "key_refused", "q": "ok"}


def test_spent_credit_fails_over_and_rate_limit_is_awaited():
    world = two()
    world.net["p"].fault = stand_in.status(402)
    assert world.embed("a").provider == "q"
    world.net["q"].fault = stand_in.status(402)
    refusal = world.refusal("b")
    assert (refusal.status, refusal.code) == (429, "provider_credit_exhausted")
    assert [len(world.net[host].calls) for host in "pq"] == [1, 2]

    alone = World(one("p"))
    p = alone.net["p"]
    p.fault = lambda answer: (
        stand_in.status(429, {"retry-after": "3"})(answer) if len(p.calls) == 1 else answer
    )
    assert alone.embed("a").attempts == 2
    assert alone.loop.time() == 3.5


def test_provider_that_is_down_is_probed_by_single_requests():
    world = World(one("p"))
    p = world.net["p"]
    p.fault = DOWN
    world.refusal("a")
    before = len(p.calls)
    p.delay_seconds = 1
    world.together(*([f"{number}"] for number in range(50)))
    seconds = world.loop.time()
    assert len(p.calls) - before <= seconds + 1
    p.fault = None
    world.loop.pass_time(breaker.OPEN_SECONDS)
    answers = world.together(*([f"new {number}"] for number in range(50)))
    assert all(isinstance(it, Answer) for it in answers)


def test_provider_unable_to_take_request_is_named_when_all_fail():
    world = World(one("p", kind="Voyage"), one("q", "n"), crossing=True)
    world.net["q"].fault = DOWN
    obstacle = "Voyage takes texts, not token arrays"
    message = world.refusal((1, 2)).message
    assert f"p: takes_no_tokens: {obstacle}" in message
    assert "; q: no_connection" in message


# --- what a request asks of the cache


def test_no_cache_asks_anew_and_keeps_answer():
    world = World(one("p"))
    world.embed("a")
    answer = world.embed("a", control=NO_CACHE)
    assert (answer.hits, answer.attempts) == (0, 1)
    assert world.embed("a").hits == 1


def test_no_cache_waits_for_no_flight_begun_before():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1

    async def run():
        before = asyncio.create_task(world.service.embed(ask("a")))
        await asyncio.sleep(0.1)
        anew = await world.service.embed(ask("a"), control=NO_CACHE)
        await before
        return anew

    assert world.run(run()).attempts == 1
    assert len(world.net["p"].calls) == 2


def test_no_store_keeps_nothing_and_lends_nothing():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    control = CacheControl(no_store=True)

    async def run():
        private = asyncio.create_task(world.service.embed(ask("a"), control=control))
        await asyncio.sleep(0.1)
        return await asyncio.gather(private, world.service.embed(ask("a")))

    private, open_ = world.run(run())
    assert (private.attempts, open_.attempts, open_.coalesced) == (1, 1, 0)
    world.embed("b", control=control)
    assert world.embed("b").hits == 0
    assert world.embed("a", control=control).hits == 1


def test_ages_and_lifetimes_reach_cache(monkeypatch):
    world = World(one("p"))
    told = []
    get_many, put_many = world.cache.get_many, world.cache.put_many

    async def get(keys, *, max_age_seconds=None):
        told.append(max_age_seconds)
        return await get_many(keys, max_age_seconds=max_age_seconds)

    def put(entries, *, ttl_seconds=None):
        told.append(ttl_seconds)
        put_many(entries, ttl_seconds=ttl_seconds)

    monkeypatch.setattr(world.cache, "get_many", get)
    monkeypatch.setattr(world.cache, "put_many", put)
    world.embed("a", control=CacheControl(max_age_seconds=7, ttl_seconds=9))
    assert told == [7, 9]


# --- what an answer says of itself


def test_time_upstream_is_time_in_which_any_call_was_under_way():
    world = two()
    world.net["p"].fault = DOWN
    world.net["p"].delay_seconds = 2
    world.net["q"].delay_seconds = 3
    assert world.embed("a").upstream_seconds == 5
    world.net["p"].fault = None
    assert world.embed("a").upstream_seconds == 2
    assert world.embed("a").upstream_seconds == 0
