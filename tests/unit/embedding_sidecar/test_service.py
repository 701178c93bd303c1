"""Answers: from the cache or a provider, the cost of each, and never in two spaces at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.engine import breaker, dispatch
from embedding_sidecar.engine.request_state import Found
from embedding_sidecar.openai_format.cache_control import CacheControl
from embedding_sidecar.translation import provider_api
from tests.fakes import provider as stand_in
from tests.parts.world import TIMING, WALL, Quota, World, ask, one, vectors

DOWN = errors.Unreachable("no_connection", billed=False)
TIMEOUT = errors.Unreachable("timeout", billed=True)


# --- the cache


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d d"]), min_size=1), max_size=6))
def test_every_item_gets_its_own_vector_and_none_is_bought_twice(batches):
    world = World(one("p"))
    for batch in batches:
        answer = world.embed(*batch)
        assert answer.vectors == vectors("m", *batch)
        assert answer.items == len(batch)
    bought = [item for batch in world.asked("p") for item in batch]
    assert sorted(bought) == sorted({item for batch in batches for item in batch})


def test_partial_hit_buys_rest_and_says_so():
    world = World(one("p"))
    world.embed("one", "two words")
    answer = world.embed("new text", "two words", "new text", "one")
    assert answer.vectors == vectors("m", "new text", "two words", "new text", "one")
    assert (answer.hits, answer.items, answer.tokens) == (2, 4, 2)
    assert answer.tokens_saved == 3
    assert world.asked("p")[1] == ["new text"]
    assert world.cache.stats()["tokens_saved"] == 3


def test_full_hit_touches_neither_quota_nor_provider():
    world = World(one("p"), quota=Quota(left=1))
    world.embed("a", "b")
    answer = world.embed("b", "a")
    assert (answer.hits, answer.tokens, answer.attempts) == (2, 0, 0)
    assert world.refusal("c").code == "insufficient_quota"
    assert len(world.net["p"].calls) == 1


def test_tokens_are_kept_apart_from_text_of_same_name():
    world = World(one("p"))
    answer = world.embed((1, 2), "x", (1, 2))
    assert answer.vectors == vectors("m", [1, 2], "x", [1, 2])
    assert world.asked("p") == [[[1, 2], "x"]]


@pytest.mark.parametrize("change", [{"input_type": "query"}, {"dimensions": 4}])
def test_field_that_changes_vector_makes_another_entry(change):
    world = World(one("p", kind="OpenAICompatible"))
    plain = world.embed("a")
    assert world.embed("a", **change).vectors != plain.vectors


def test_cache_is_shared_by_all_users():
    world = World(one("p"))
    world.embed("a", user="u")
    assert world.embed("a").hits == 1


def test_vectors_of_another_size_than_cached_ones_replace_them():
    world = World(one("p", kind="OpenAICompatible"))
    world.embed("a")
    p = world.net["p"]
    p.fault = lambda _: stand_in.vectors(
        p.calls[-1].body, p.calls[-1].body["input"], dimensions=8, default="float"
    )
    answer = world.embed("a", "b")
    assert answer.vectors == tuple(stand_in.vector("m", it, 8) for it in "ab")
    assert world.asked("p") == [["a"], ["b"], ["a"]]
    assert (answer.hits, answer.tokens, answer.attempts) == (0, 2, 2)


def test_cached_vectors_of_several_sizes_are_no_hit():
    world = World(one("p", kind="OpenAICompatible"))
    world.embed("a")
    key = world.cache.keys(provider_api.Ask(model="m", items=("b",)), space=world.embed("a").space)[
        0
    ]
    stale = cache_entry.Entry(
        model="m", space=world.embed("a").space, vector=b"\0" * 8, tokens=1, made_at=WALL
    )
    world.cache.put_many({key: stale})
    answer = world.embed("a", "b")
    assert (answer.vectors, answer.hits) == (vectors("m", "a", "b"), 0)


# --- a cache that has just been asked


def just_asked(world, *items, **rest):
    """What the cache says to the first choice, asked as the service would."""
    asked = ask(*items, **rest)
    keys = world.cache.keys(asked, space=world.document.providers[0].space())
    return Found(keys, world.run(world.cache.get_many(keys)), world.loop.time())


def test_entries_just_found_are_not_looked_up_again(monkeypatch):
    world = World(one("p"))
    world.embed("a")
    found = just_asked(world, "a", "b", "b")
    monkeypatch.setattr(world.cache, "keys", None)
    monkeypatch.setattr(world.cache, "get_many", None)
    answer = world.run(world.service.embed(ask("a", "b", "b"), found=found))
    assert (answer.vectors, answer.hits) == (vectors("m", "a", "b", "b"), 1)
    assert world.asked("p") == [["a"], ["b"]]


def test_call_that_landed_after_cache_was_asked_is_taken():
    world = World(one("p"))
    found = just_asked(world, "a")
    world.embed("a")
    world.loop.pass_time(0.1)
    answer = world.run(world.service.embed(ask("a"), found=found))
    assert (answer.coalesced, answer.attempts) == (1, 0)


def test_entries_just_found_are_no_answer_under_no_cache():
    world = World(one("p"))
    world.embed("a")
    found = just_asked(world, "a")
    control = CacheControl(no_cache=True)
    assert world.run(world.service.embed(ask("a"), control=control, found=found)).hits == 0


def test_next_choice_is_looked_up_though_cache_was_asked_for_first():
    world = World(one("p", "m"), one("q", "n"), crossing=True)
    world.embed("a", model="n")
    world.net["p"].fault = DOWN
    answer = world.run(world.service.embed(ask("a"), found=just_asked(world, "a")))
    assert (answer.provider, answer.hits, answer.attempts) == ("q", 1, 1)


# --- a miss, once the cache has been asked


def begun(world, *items, **rest):
    """What comes of a request that was begun after a look into the cache."""
    found = just_asked(world, *items, **rest)

    async def run():
        return await begin(world, found, *items, **rest)

    return world.run(run())


def begin(world, found, *items, **rest):
    """The answer to come; who cancels it leaves."""
    return asyncio.ensure_future(world.service.embed(ask(*items, **rest), found=found))


def test_miss_of_one_item_needs_one_task_but_that_of_its_call():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    found = just_asked(world, "a b")

    async def run():
        answer = begin(world, found, "a b")
        await asyncio.sleep(0.5)
        return len(asyncio.all_tasks()), await answer

    tasks, answer = world.run(run())
    assert tasks == 3  # this one, the request and the call
    assert (answer.vectors, answer.tokens, answer.attempts) == (vectors("m", "a b"), 2, 1)
    assert answer.upstream_seconds == 1
    assert world.embed("a b").hits == 1


def test_equal_texts_share_one_call():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    found = just_asked(world, "a")

    async def run():
        answers = [begin(world, found, "a") for _ in range(3)]
        return await asyncio.gather(*answers)

    assert [it.coalesced for it in world.run(run())] == [0, 1, 1]
    assert world.asked("p") == [["a"]]


@pytest.mark.parametrize("fault", [DOWN, TIMEOUT, stand_in.status(500), stand_in.status(429)])
def test_failed_call_moves_request_to_next_candidate(fault):
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = fault
    answer = begun(world, "a")
    assert (answer.provider, answer.attempts) == ("q", 2)
    assert (world.asked("p"), world.asked("q")) == ([["a"]], [["a"]])
    assert world.seen.failovers == ["openai"]


def test_slow_call_moves_request_to_next_candidate():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].delay_seconds = 1000
    answer = begun(world, "a")
    assert answer.provider == "q"
    assert world.loop.time() == TIMING.request_seconds / 2


def test_deadline_is_kept_whatever_hangs(monkeypatch):
    world = World(one("p", space="s"), one("q", "n", space="s"))
    monkeypatch.setattr(world.quota, "draw", lambda **_: None)
    with pytest.raises(errors.Unavailable):
        begun(world, "a")
    assert world.loop.time() == TIMING.request_seconds


def test_unanswerable_request_is_refused_as_usual():
    world = World(one("p"), quota=Quota(left=0))
    with pytest.raises(errors.QuotaExhausted) as caught:
        begun(world, "a")
    assert caught.value.attempts == 0
    world = World(one("p"))
    world.net["p"].fault = stand_in.status(401)
    with pytest.raises(errors.Unavailable) as refused:
        begun(world, "a")
    assert (refused.value.code, refused.value.attempts) == ("all_providers_failed", 1)


def test_call_of_caller_that_left_completes_and_is_kept():
    world = World(one("p"))
    world.net["p"].delay_seconds = 1
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(0.5)
        answer.cancel()
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    assert world.run(run()) == 1
    assert world.embed("a").hits == 1


def test_caller_that_left_causes_no_call_to_next_provider():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].delay_seconds = 1
    world.net["p"].fault = DOWN
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(0.5)
        answer.cancel()
        await asyncio.sleep(60)

    world.run(run())
    assert (len(world.net["p"].calls), world.net["q"].calls) == (1, [])


def made_to_wait(world, monkeypatch):
    """The quota makes one wait from now on; what grants the call that was waited for."""
    drawn = []
    draw_at_once = world.quota.draw

    def draw(tokens, done, background, price):
        drawn.append((tokens, done))
        return lambda: None

    async def grant():
        tokens, done = drawn.pop()
        draw_at_once(tokens=tokens, done=done)

    monkeypatch.setattr(world.quota, "draw", draw)
    return grant


def test_time_spent_waiting_for_quota_is_not_providers(monkeypatch):
    """A call that would be begun after its time is not made, and not billed."""
    world = World(one("p"))
    grant = made_to_wait(world, monkeypatch)
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(TIMING.attempt_seconds + 1)
        await grant()
        monkeypatch.undo()
        return await answer

    assert world.run(run()).attempts == 1
    assert len(world.net["p"].calls) == 1
    assert world.quota.settled[0] == (False, 0)


def test_caller_that_leaves_while_quota_is_awaited_buys_nothing(monkeypatch):
    world = World(one("p"))
    grant = made_to_wait(world, monkeypatch)
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(0)
        answer.cancel()
        await asyncio.sleep(0)
        await grant()
        await asyncio.sleep(60)

    world.run(run())
    assert world.net["p"].calls == []
    assert world.quota.settled == [(False, 0)]


def test_fault_as_call_begins_is_its_callers_and_leaves_nothing_behind(monkeypatch, caplog):
    world = World(one("p"))
    monkeypatch.setattr(world.net, "start", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        begun(world, "a")
    assert world.quota.settled == [(True, world.quota.reserved[0])]
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert begun(world, "a").attempts == 1


def test_key_that_one_call_refused_and_later_one_took_is_not_refused():
    world = World(one("p"))
    answers = iter([stand_in.status(401), None])

    def fault(answer):
        change = next(answers)
        return change(answer) if change else answer

    world.net["p"].fault = fault
    world.net["p"].delay_seconds = 1
    founds = {text: just_asked(world, text) for text in ("a", "b")}

    async def run():
        both = [begin(world, found, text) for text, found in founds.items()]
        return await asyncio.gather(*both, return_exceptions=True)

    refused, answered = world.run(run())
    assert isinstance(refused, errors.Unavailable)
    assert answered.vectors == vectors("m", "b")
    assert world.service.refused_keys() == frozenset()


def test_process_that_ends_while_quota_is_awaited_sends_nothing(monkeypatch):
    world = World(one("p"))
    grant = made_to_wait(world, monkeypatch)
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(0)
        await world.registry.close()
        await grant()
        await asyncio.gather(answer, return_exceptions=True)

    world.run(run())
    assert world.net["p"].calls == []
    assert world.quota.settled == [(False, 0)]


def test_call_that_process_ends_is_billed(monkeypatch):
    world = World(one("p"))
    world.net["p"].delay_seconds = 5
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(1)
        await world.registry.close()
        await asyncio.gather(answer, return_exceptions=True)

    world.run(run())
    assert world.quota.settled == [(True, world.quota.reserved[0])]
    assert world.seen.calls == [("openai", "m", "cancelled")]


def test_caller_that_leaves_while_waiting_makes_no_call():
    world = World(one("p"))
    world.net["p"].fault = DOWN
    found = just_asked(world, "a")

    async def run():
        answer = begin(world, found, "a")
        await asyncio.sleep(0.1)  # the first call has failed, and the second is waited for
        tasks = len(asyncio.all_tasks())
        answer.cancel()
        await asyncio.sleep(0.1)
        return tasks, len(asyncio.all_tasks())

    assert world.run(run()) == (2, 1)
    assert len(world.net["p"].calls) == 1


def test_pending_part_is_not_begun_for_caller_that_left():
    world = World(one("p", kind="Voyage"))
    world.net["p"].delay_seconds = 1
    many = [f"text {number}" for number in range(10_000)]
    found = just_asked(world, many[-1])

    async def run():
        first = asyncio.create_task(world.service.embed(ask(*many)))
        await asyncio.sleep(0.5)
        second = begin(world, found, many[-1])
        first.cancel()
        second.cancel()
        await asyncio.sleep(100)

    world.run(run())
    assert len(world.net["p"].calls) == dispatch.PARTS_AT_ONCE


# --- models


def test_alias_means_provider_and_shares_its_cache():
    world = World(one("p", aliases=("small",)))
    world.embed("a", model="small")
    answer = world.embed("a")
    assert (answer.hits, answer.model) == (1, "m")
    assert world.net["p"].calls[0].body["model"] == "m"


def test_model_nobody_has_is_refused_with_those_there_are():
    refusal = World(one("p", aliases=("small",)), one("q", "n")).refusal("a", model="x")
    assert (refusal.status, refusal.code, refusal.param) == (404, "model_not_found", "model")
    assert "m, small, n" in refusal.message


def test_model_picks_its_provider_and_nobody_before_it_is_asked():
    world = World(one("p", "m"), one("q", "n"), crossing=True)
    world.net["q"].fault = DOWN
    assert world.refusal("a", model="n").code == "all_providers_failed"
    assert world.net["p"].calls == []


def test_other_dimensions_than_pinned_are_refused():
    world = World(one("p", dimensions=8))
    refusal = world.refusal("a", dimensions=4)
    assert (refusal.status, refusal.param) == (400, "dimensions")
    assert world.embed("a").vectors == world.embed("a", dimensions=8).vectors
    assert world.net["p"].calls[0].body["dimensions"] == 8


# --- failover


def test_another_provider_of_space_goes_on_with_what_was_found():
    world = World(one("p", "m", space="s"), one("q", "n", space="s"))
    world.embed("a")
    world.net["p"].fault = DOWN
    answer = world.embed("a", "b")
    assert answer.vectors == vectors("m", "a") + vectors("n", "b")
    assert (answer.provider, answer.model, answer.hits) == ("q", "n", 1)
    assert world.asked("q") == [["b"]]
    assert world.seen.failovers == ["openai"]
    assert world.seen.errors == [("unreachable", "openai")]


def test_texts_are_made_anew_across_spaces_and_kept_under_their_own():
    world = World(one("p"), one("q", "n", kind="Voyage"), crossing=True)
    world.embed("a")
    world.net["p"].fault = DOWN
    answer = world.embed("a", "b")
    assert answer.vectors == vectors("n", "a", "b")
    assert (answer.hits, answer.kind, answer.space) == (0, "Voyage", answer.space)
    assert world.embed("b", "a").hits == 2
    assert len(world.asked("q")) == 1
    world.net["p"].fault = None
    again = world.embed("a", "b")
    assert again.vectors == vectors("m", "a", "b")
    assert (again.hits, again.provider) == (1, "p")


def test_cached_vectors_of_first_candidate_are_served_while_it_is_down():
    world = World(one("p"), one("q", "n"), crossing=True)
    world.embed("a")
    world.net["p"].fault = DOWN
    for number in range(5):
        world.embed(f"new {number}")
    answer = world.embed("a")
    assert (answer.vectors, answer.provider, answer.attempts) == (vectors("m", "a"), "p", 0)


def test_other_space_answers_only_with_consent():
    world = World(one("p"), one("q", "n"))
    world.net["p"].fault = DOWN
    assert world.refusal("a").status == 502
    assert world.net["q"].calls == []


def test_other_provider_does_not_answer_without_failover():
    world = World(one("p", space="s"), one("q", "n", space="s"), enabled=False)
    world.net["p"].fault = DOWN
    assert world.refusal("a").status == 502
    assert world.net["q"].calls == []


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcd"), min_size=1), st.sampled_from("pqr-"))))
def test_answer_is_of_one_space_whatever_fails(rounds):
    world = World(
        one("p", "m", space="s"), one("q", "n", space="t"), one("r", "o", space="s"), crossing=True
    )
    of_space = {"s": {"m", "o"}, "t": {"n"}}
    for items, down in rounds:
        for host in "pqr":
            world.net[host].fault = DOWN if host == down else None
        batch = sorted(items)
        answer = world.embed(*batch)
        for item, made in zip(batch, answer.vectors, strict=True):
            assert made in {stand_in.vector(it, item) for it in of_space[answer.space]}


def test_callers_fault_ends_failover():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    refusal = world.refusal("too long")
    assert (refusal.status, refusal.param) == (400, "input")
    assert "8192" in refusal.message
    assert world.net["q"].calls == []
    assert world.quota.settled == [(False, 0)]


def test_only_chosen_provider_may_blame_caller():
    world = World(one("p"), one("q", "n"), crossing=True)
    world.net["p"].fault = DOWN
    assert world.refusal("too long").status == 502


def test_provider_that_takes_no_tokens_is_passed_over():
    world = World(one("p", kind="Voyage"), one("q", "n"), crossing=True)
    assert world.embed((1, 2)).provider == "q"
    assert world.net["p"].calls == []


def test_tokens_that_nobody_takes_are_refused():
    refusal = World(one("p", kind="Voyage")).refusal((1, 2))
    assert (refusal.status, refusal.param) == (400, "input")
    assert "token arrays" in refusal.message


def test_provider_that_failed_three_times_is_tried_last_for_some_time():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = DOWN
    for number in range(5):
        world.embed(f"{number}")
    assert len(world.net["p"].calls) == breaker.FAILURES_TO_OPEN
    assert world.service.health() == {"p": "failing", "q": "ok"}
    world.net["p"].fault = None
    world.loop.pass_time(breaker.OPEN_SECONDS)
    assert world.embed("x").provider == "p"
    assert world.service.health() == {"p": "ok", "q": "ok"}


def test_provider_tried_last_is_still_tried():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = DOWN
    for number in range(3):
        world.embed(f"{number}")
    world.net["p"].fault = None
    world.net["q"].fault = DOWN
    assert world.embed("x").provider == "p"


# --- when nobody answers


def test_all_used_up_is_429_with_shortest_wait():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = stand_in.status(429, {"retry-after": "7"})
    world.net["q"].fault = stand_in.status(429, {"retry-after": "5"})
    refusal = world.refusal("a")
    assert isinstance(refusal, errors.Unavailable)
    assert (refusal.status, refusal.retry_after_seconds) == (429, 5.0)


def test_one_down_and_one_used_up_is_502():
    world = World(one("p", space="s"), one("q", "n", space="s"))
    world.net["p"].fault = stand_in.status(429)
    world.net["q"].fault = DOWN
    refusal = world.refusal("a")
    assert (refusal.status, refusal.code) == (502, "all_providers_failed")
    assert "p: rate_limited: no; q: no_connection" in refusal.message


def test_key_that_is_missing_is_named_and_how_to_see_why():
    world = World(one("p"), keys={})
    refusal = world.refusal("a")
    assert (refusal.status, refusal.code) == (503, "provider_key_missing")
    for part in ("'p'", "'provider-p'", "not been synced yet", "kubectl describe embpol search"):
        assert part in refusal.message
    assert world.service.health() == {"p": "key_missing"}
    assert (world.net["p"].calls, world.quota.reserved) == ([], [])


def test_key_that_is_missing_matters_only_if_nobody_else_answers():
    world = World(one("p", space="s"), one("q", "n", space="s"), keys={"q": stand_in.KEY})
    assert world.embed("a").provider == "q"


def test_key_that_is_refused_is_502_that_does_not_show_it():
    world = World(one("p"), keys={"p": "sk-wrong"})
    refusal = world.refusal("a")
    assert (refusal.status, refusal.code) == (502, "all_providers_failed")
    assert "sk-wrong" not in refusal.message
    assert world.seen.errors == [("misconfigured", "openai")]
    assert world.service.refused_keys() == {"p"}


def test_environment_form_is_not_told_of_kubernetes():
    assert "kubectl" not in World(one("p"), keys={}, namespace="").refusal("a").message


# --- quota and what is seen


def test_call_is_settled_at_what_was_billed():
    world = World(one("p"))
    world.embed("one two three")
    assert world.quota.reserved == [13 + 8]
    assert world.quota.settled == [(True, 3)]
    assert world.seen.billed == 3
    assert world.seen.calls == [("openai", "m", "ok")]


@pytest.mark.parametrize(
    ("fault", "settled", "outcome", "tries"),
    [
        (DOWN, (False, 0), "no_connection", 3),
        (TIMEOUT, (True, 9), "timeout", 3),
        (stand_in.status(500), (False, 0), "server_error", 3),
        (stand_in.status(504), (True, 9), "server_error", 3),
        (stand_in.status(429), (False, 0), "rate_limited", 3),
        (stand_in.status(402), (False, 0), "no_credit", 1),
        (stand_in.status(403), (False, 0), "forbidden", 1),
        (stand_in.raw(b"<html>"), (True, 9), "bad_answer", 1),
        (stand_in.changed(lambda body: body["data"].pop()), (True, 9), "bad_answer", 1),
    ],
)
def test_call_possibly_billed_counts_for_each_try(fault, settled, outcome, tries):
    world = World(one("p"))
    world.net["p"].fault = fault
    world.refusal("a")
    assert world.quota.settled == [settled] * tries
    assert world.seen.calls == [("openai", "m", outcome)] * tries
    world.net["p"].fault = None
    world.loop.pass_time(breaker.OPEN_SECONDS)
    assert world.embed("a").hits == 0


def test_caller_that_leaves_cancels_no_call_and_result_is_kept():
    world = World(one("p"))
    world.net["p"].delay_seconds = 20
    with pytest.raises(TimeoutError):
        world.run(asyncio.wait_for(world.service.embed(ask("a")), 1))
    world.loop.pass_time(20)
    assert world.quota.settled == [(True, 1)]
    assert world.embed("a").hits == 1


def test_call_that_end_of_process_cancels_counts():
    world = World(one("p"))
    world.net["p"].delay_seconds = 20
    with pytest.raises(TimeoutError):
        world.run(asyncio.wait_for(world.service.embed(ask("a")), 1))
    world.run(world.registry.close())
    assert world.quota.settled == [(True, 9)]
    assert world.seen.calls == [("openai", "m", "cancelled")]


def test_each_provider_tried_is_call_of_quota():
    world = World(one("p", space="s"), one("q", "n", space="s"), quota=Quota(left=1))
    world.net["p"].fault = TIMEOUT
    assert world.refusal("a").code == "insufficient_quota"
    assert world.net["q"].calls == []


def test_answer_does_not_print_its_vectors():
    answer = World(one("p")).embed("a")
    assert repr(answer.vectors[0]) not in repr(answer)


def test_entries_of_one_space_share_its_name():
    """The memory layer counts a name once; one each would take a tenth of a short vector."""
    world = World(one("p"))
    world.embed("a")
    world.embed("b")
    keys = world.cache.keys(ask("a", "b"), space=world.document.providers[0].space())
    first, second = world.cache.cached_answers(keys)
    assert first is not None
    assert second is not None
    assert first.space is second.space
