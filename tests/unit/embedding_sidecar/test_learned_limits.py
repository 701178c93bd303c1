"""Limits are learned by kind, and forgotten; the policy may set them (B3, B4, B5, B10)."""

import json

import pytest

from embedding_contract import provider_terms
from embedding_sidecar import errors
from embedding_sidecar.engine.learned_limits import RAISE_SECONDS, Learned, Size
from embedding_sidecar.engine.service import Timing
from embedding_sidecar.translation.provider_api import Limits
from tests.fakes import provider as stand_in
from tests.parts.world import World, one, vectors

BASE = Limits(items=2048, tokens=300_000, body_bytes=2_000_000)


def texts(count, *, size=1, mark="t"):
    return [f"{mark}{number} ".ljust(size, "x") for number in range(count)]


def taking(world, *, items=10**9, size_bytes=10**9, status=400, words="no", name="p"):
    """The provider takes so much at once, and says so with this status."""
    p = world.net[name]

    def fault(made):
        said = p.calls[-1].body["input"]
        body = sum(len(str(text)) + 3 for text in said)
        refused = len(said) > items or body > size_bytes
        return (status, {}, {"error": {"message": words}}) if refused else made

    p.fault = fault
    return p


def sizes(world):
    return [len(part) for part in world.asked("p")]


@pytest.mark.parametrize(
    ("status", "items"),
    # DashScope, TEI, Gemini; siblings: one at a time, and 413 for a number.
    [(400, 10), (422, 32), (400, 100), (400, 1), (413, 32), (422, 3)],
)
def test_b4_limit_of_items_by_any_status_is_split_and_remembered(status, items):
    """B4."""
    world = World(one("p", kind="OpenAICompatible"))
    p = taking(world, items=items, status=status, words=f"at most {items}")
    asked = texts(250)
    assert world.embed(*asked).vectors == vectors("m", *asked)
    p.calls.clear()
    again = texts(250, mark="u")
    assert world.embed(*again).vectors == vectors("m", *again)
    assert max(sizes(world)) <= items
    assert len(p.calls) <= 250 // max(items // 2, 1) + 1


def test_answer_counts_tokens_of_all_halves():
    world = World(one("p", kind="OpenAICompatible"))
    taking(world, items=2)
    asked = texts(5)
    answer = world.embed(*asked)
    assert answer.tokens == sum(map(stand_in.tokens, asked))
    assert not answer.is_estimated


def test_tokens_are_estimated_where_first_half_states_none():
    world = World(one("p", kind="OpenAICompatible"))
    p = taking(world, items=2)
    refuse = p.fault

    def fault(made):
        told = refuse(made)
        if told is made and len(p.calls) == 2:
            status, headers, body = made
            return status, headers, {"data": body["data"]}
        return told

    p.fault = fault
    assert world.embed(*texts(4)).is_estimated


def test_b4_limit_is_raised_after_some_time_and_forgotten():
    """B4."""
    world = World(one("p", kind="OpenAICompatible"))
    p = taking(world, items=10)
    world.embed(*texts(64))
    p.fault = None
    for raises in (0, 1):
        p.calls.clear()
        world.embed(*texts(64, mark=f"r{raises} "))
        assert max(sizes(world)) == 8 * 2**raises
        world.loop.pass_time(RAISE_SECONDS)
    world.loop.pass_time(20 * RAISE_SECONDS)
    p.calls.clear()
    world.embed(*texts(64, mark="z"))
    assert sizes(world) == [64]


def test_b4_one_bad_text_is_found_and_teaches_nothing():
    """B4: a 400 that is about one text; its neighbours are kept."""
    world = World(one("p", kind="OpenAICompatible"))
    p = world.net["p"]
    p.fault = lambda made: (
        (400, {}, {"error": "bad text"}) if "evil" in p.calls[-1].body["input"] else made
    )
    asked = [*texts(15), "evil"]
    refusal = world.refusal(*asked)
    assert refusal.status == 400
    assert "input[15]" in refusal.message
    p.fault = None
    p.calls.clear()
    assert world.embed(*texts(16, mark="n")).attempts == 1


def taking_short(world, *, characters, status):
    """The provider takes no text that is longer, and says so of the whole call."""
    p = world.net["p"]

    def fault(made):
        refused = any(len(text) > characters for text in p.calls[-1].body["input"])
        return (status, {}, {"error": "too long"}) if refused else made

    p.fault = fault
    return p


# TEI says 413, vLLM 400; siblings: 422, and a limit of one text's tokens that is twice as high.
@pytest.mark.parametrize(("status", "characters"), [(400, 1000), (413, 1000), (422, 2000)])
def test_b4_text_too_long_is_found_once_and_then_goes_alone(status, characters):
    """B4: tokens of one text are learned apart; no batch is halved again to find the next."""
    world = World(one("p", kind="OpenAICompatible"))
    p = taking_short(world, characters=characters, status=status)
    many = texts(255, size=500)
    assert world.refusal(*many, "n".ljust(characters + 1, "n")).status == status
    assert len(p.calls) > 8
    p.calls.clear()
    new = texts(255, size=500, mark="u")
    refusal = world.refusal(*new[:100], "m".ljust(characters + 1, "m"), *new[100:])
    assert (refusal.status, "input[100]" in refusal.message) == (status, True)
    assert len(p.calls) <= 3
    # The neighbours are kept, and short ones are in one call as before.
    p.fault = None
    p.calls.clear()
    assert world.embed(*new, *texts(100, mark="v")).attempts == 1
    assert sizes(world) == [100]


def test_b4_long_text_alone_teaches_and_is_still_sent_again():
    """B4: what is known is a bound of its tokens, so nothing is refused without a call."""
    world = World(one("p", kind="OpenAICompatible"))
    p = taking_short(world, characters=1000, status=400)
    assert world.refusal("n" * 1001).status == 400
    p.fault = None
    p.calls.clear()
    world.embed(*texts(4), "m" * 1001, *texts(4, mark="u"))
    assert sorted(sizes(world)) == [1, 4, 4]
    # It has passed, so that nothing is left of the lesson.
    p.calls.clear()
    world.embed(*texts(4, mark="v"), "o" * 1001)
    assert sizes(world) == [5]


@pytest.mark.parametrize(
    ("tokens", "passed", "is_learned"), [(255, 0, False), (300, 300, False), (300, 299, True)]
)
def test_b4_only_longest_recent_text_may_be_too_long(tokens, passed, is_learned):
    """B4: an empty text, or a bad one among longer ones, is refused for another reason."""
    learned = Learned()
    learned.passed(Size(1, passed, passed), now=RAISE_SECONDS)
    learned.refused_alone(Size(1, tokens, tokens), now=RAISE_SECONDS + 1)
    assert (learned.within(BASE, now=RAISE_SECONDS + 1) != BASE) is is_learned


def test_b4_item_that_goes_alone_may_be_longer_after_some_time():
    """B4: twice as long, then four times, until nothing is known."""
    learned = Learned()
    learned.refused_alone(Size(1, 900, 900), now=0.0)
    learned.refused_alone(Size(1, 5000, 5000), now=1.0)
    alone = [
        learned.within(BASE, now=1 + raises * RAISE_SECONDS).alone_from_tokens
        for raises in (0, 1, 2, 20)
    ]
    assert alone == [900, 1800, 3600, None]


@pytest.mark.parametrize("kind", ["Gemini", "Cohere", "Mistral", "Jina"])
def test_b4_400_of_vendor_whose_limits_are_not_all_known_is_split(kind):
    """B4: so Mistral answers to too many tokens in all."""
    world = World(one("p", kind=kind))
    taking(world, items=2)
    asked = texts(5)
    told = stand_in.side(kind, None)
    expected = tuple(stand_in.vector("m", it, input_type=told) for it in asked)
    assert world.embed(*asked).vectors == expected


@pytest.mark.parametrize("kind", ["OpenAI", "Voyage", "AzureOpenAI"])
def test_b4_vendors_own_400_is_not_split(kind):
    """B4: what it takes is published, and kept."""
    world = World(one("p", kind=kind))
    taking(world, items=1)
    assert world.refusal("a", "b").status == 400
    assert len(world.net["p"].calls) == 1


@pytest.mark.parametrize("param", ["input[1]", "model", "dimensions"])
def test_b4_400_about_item_or_another_field_is_not_split(param):
    """B4."""
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = lambda _: (400, {}, {"error": {"message": "no", "param": param}})
    assert world.refusal("a", "b").status == 400
    assert len(world.net["p"].calls) == 1


def test_b5_limit_of_bytes_is_none_of_items():
    """B5: after large texts, many small ones go in one call again."""
    world = World(one("p", kind="OpenAICompatible"))
    p = taking(world, size_bytes=1_000_000, status=413)
    world.embed(*texts(36, size=50_000))
    p.calls.clear()
    small = texts(2000, mark="s")
    assert world.embed(*small).attempts == 1
    # And large ones are not refused again.
    p.calls.clear()
    world.embed(*texts(36, size=50_000, mark="w"))
    assert sum(sizes(world)) == 36


def test_b5_passing_requests_tell_which_limit_was_met():
    """B5: a 413 of items, where many bytes have passed; and a 400 of bytes, where many items."""
    learned = Learned()
    learned.passed(Size(10, 500_000), now=0.0)
    learned.halved(Size(64, 200_000), Size(32, 100_000), status=413, now=1.0)
    assert learned.within(BASE, now=2.0) == Limits(items=32, tokens=300_000, body_bytes=2_000_000)
    other = Learned()
    other.passed(Size(2000, 9_000), now=0.0)
    other.halved(Size(64, 200_000), Size(32, 100_000), status=400, now=1.0)
    assert other.within(BASE, now=2.0).items == BASE.items
    assert other.within(BASE, now=2.0).body_bytes == 100_000


@pytest.mark.parametrize("status", [413, 400])
def test_b5_wrong_guess_is_corrected(status):
    """B5."""
    learned = Learned()
    learned.halved(Size(64, 200_000), Size(32, 100_000), status=status, now=0.0)
    before = learned.within(BASE, now=1.0)
    learned.passed(Size(64, 9_000) if status == 400 else Size(1, 200_000), now=1.0)
    after = learned.within(BASE, now=1.0)
    assert (before.items == 32) == (status == 400)
    assert (after.items == 32) == (status == 413)


def test_b3_timed_out_batch_comes_again_in_parts():
    """B3: 50 ms a text."""
    world = World(
        one("p", kind="OpenAICompatible", call_seconds=30.0, request_seconds=600.0),
    )
    p = world.net["p"]
    send = p.send

    async def slow(request, *, within_seconds):
        p.delay_seconds = 0.05 * len(json.loads(request.body)["input"])
        return await send(request, within_seconds=within_seconds)

    p.send = slow  # type: ignore[method-assign] # slow by the number of texts
    asked = texts(700)
    answer = world.embed(*asked)
    assert answer.vectors == vectors("m", *asked)
    assert sizes(world)[0] == 700
    assert all(size <= 400 for size in sizes(world)[1:])
    p.calls.clear()
    world.embed(*texts(700, mark="u"))
    assert max(sizes(world)) <= 400


@pytest.mark.parametrize(("seconds", "status"), [(200.0, 200), (599.0, 502)])
def test_b3_policy_says_how_long_provider_may_take(seconds, status):
    """B3: of one text, beyond the default of 50 s."""
    world = World(one("p", call_seconds=300.0, request_seconds=600.0))
    world.net["p"].delay_seconds = seconds
    if status == 200:
        assert world.embed("a").attempts == 1
    else:
        started = world.loop.time()
        assert world.refusal("a").status == status
        assert world.loop.time() - started <= 600.0


@pytest.mark.parametrize(("call", "status"), [(200.0, 200), (90.0, 502)])
def test_b3_request_has_time_of_one_call_where_policy_says_that_alone(call, status):
    """B3."""
    world = World(one("p", kind="OpenAICompatible", call_seconds=call))
    world.net["p"].delay_seconds = 100.0
    if status == 200:
        assert world.embed("a").provider == "p"
    else:
        assert world.refusal("a").status == status


def test_b3_parts_that_wait_are_split_by_what_first_has_taught():
    """B3: each of three tries would halve once else, and the request would fail with time left."""
    world = World(one("p", kind="OpenAICompatible", call_seconds=2.0, request_seconds=60.0))
    p = world.net["p"]
    send = p.send

    async def slow(request, *, within_seconds):
        p.delay_seconds = 0.05 * len(json.loads(request.body)["input"])
        return await send(request, within_seconds=within_seconds)

    p.send = slow  # type: ignore[method-assign] # slow by the number of texts
    assert world.embed(*texts(200)).items == 200


def test_b3_environment_counts_where_policy_says_nothing():
    """B3."""
    world = World(one("p"), timing=Timing(attempt_seconds=2.0, request_seconds=3.0))
    world.net["p"].delay_seconds = 5
    started = world.loop.time()
    world.refusal("a")
    assert world.loop.time() - started <= 3.0


def test_b4_b5_policy_says_limits():
    """B4, B5: nothing need be learned; and a policy may say more than is published."""
    limits = provider_terms.Limits(items=10)
    world = World(one("p", kind="OpenAICompatible", limits=limits))
    world.embed(*texts(25))
    assert sorted(sizes(world)) == [5, 10, 10]
    wide = World(
        one("p", kind="OpenAICompatible", limits=provider_terms.Limits(body_bytes=8_000_000)),
    )
    lists = [tuple(range(at, at + 30_000)) for at in range(9)]
    wide.embed(*lists)
    assert sizes(wide) == [9]
    usual = World(one("p", kind="OpenAICompatible"))
    usual.embed(*lists)
    assert len(sizes(usual)) > 1
    narrow = World(one("p", limits=provider_terms.Limits(body_bytes=2_000)))
    narrow.embed(*texts(4, size=700))
    assert sizes(narrow) == [2, 2]


@pytest.mark.parametrize("item", [tuple(range(11)), "x" * 161])
def test_b4_item_of_too_many_tokens_is_refused_by_its_number(item):
    """B4: without a call."""
    world = World(one("p", limits=provider_terms.Limits(tokens_per_item=10)))
    refusal = world.refusal("a", item)
    assert (refusal.status, refusal.param) == (400, "input")
    assert "input[1]" in refusal.message
    assert world.net["p"].calls == []
    world.embed(tuple(range(10)), "x" * 100)


@pytest.mark.parametrize("texts_asked", [["a"], ["a", "b"]])
def test_b10_ignored_size_is_callers_error_bought_once(texts_asked):
    """B10: with consent, plain requests are not answered from the other space either."""
    world = World(
        one("p", kind="OpenAICompatible"), one("q", "n", kind="OpenAICompatible"), crossing=True
    )
    p = world.net["p"]
    p.fault = lambda _: stand_in.vectors(
        {"model": "m"}, p.calls[-1].body["input"], dimensions=16, default="float"
    )
    for number in range(4):
        refusal = world.refusal(*(f"{text}{number}" for text in texts_asked), dimensions=8)
        assert (refusal.status, refusal.param) == (400, "dimensions")
    assert len(p.calls) == 1
    assert world.embed("plain").provider == "p"
    assert world.net["q"].calls == []
    # What was bought is billed; and a size that it does make is asked for.
    assert [billed for billed, _ in world.quota.settled] == [True, True]
    assert world.embed("fits", dimensions=16).provider == "p"


def test_b10_dimensions_are_asked_for_again_after_pause():
    """B10."""
    world = World(one("p", kind="OpenAICompatible"))
    p = world.net["p"]
    p.fault = lambda _: stand_in.vectors(
        {"model": "m"}, p.calls[-1].body["input"], dimensions=16, default="float"
    )
    world.refusal("a", dimensions=8)
    p.fault = None
    world.loop.pass_time(601)
    assert len(world.embed("a", dimensions=8).vectors[0]) == 32


def test_b10_pinned_size_that_is_not_made_is_providers_fault():
    """B10: no caller chose it."""
    world = World(one("p", kind="OpenAICompatible", dimensions=8))
    p = world.net["p"]
    p.fault = lambda _: stand_in.vectors(
        {"model": "m"}, p.calls[-1].body["input"], dimensions=16, default="float"
    )
    refusal = world.refusal("a")
    assert isinstance(refusal, errors.Unavailable)
    assert "wrong_size" in refusal.message
