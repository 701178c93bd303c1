"""A fault belongs to what caused it: one text's failure is not its provider's (B2)."""

import pytest

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.engine import breaker
from embedding_sidecar.engine.provider_states import ApiKey, ProviderStates
from tests.fakes import provider as stand_in
from tests.parts.world import World, one

HTML = b"<html><title>403 Forbidden</title><body>blocked by the firewall</body></html>"
EVIL = "drop table"


def disliking(world, status, body=HTML, *, text=EVIL):
    """One text is answered so, all others well."""
    p = world.net["p"]
    p.fault = lambda made: (status, {}, body) if text in p.calls[-1].body["input"] else made
    return p


# Siblings of 403, 404, 410, 451 and 5xx: 401 in HTML, an answer of no use, the 405 of Alibaba's
# firewall, the 406 of ModSecurity's rules, 418, and a redirect to a page that asks for a person.
@pytest.mark.parametrize("status", [403, 404, 410, 451, 500, 503, 401, 200, 405, 406, 418, 302])
def test_b2_refused_text_takes_provider_from_no_caller(status):
    """B2: asked for again and again."""
    world = World(one("p"), one("q", "n"), crossing=True)
    world.net["q"].fault = stand_in.status(500)
    disliking(world, status)
    for _ in range(4):
        assert world.refusal(EVIL).status == 502
    assert world.service.health()["p"] == "ok"
    assert world.service.refused_keys() == frozenset()
    assert world.embed("harmless").provider == "p"


@pytest.mark.parametrize("status", [403, 404, 410, 451, 500, 405, 302])
def test_b2_provider_is_at_fault_when_other_texts_fail_too(status):
    """B2."""
    world = World(one("p"))
    world.net["p"].fault = lambda _: (status, {}, HTML)
    for text in "abcd":
        world.refusal(text)
    word = "key_refused" if status == 403 else "failing"
    assert world.service.health() == {"p": word}
    assert (world.service.refused_keys() == {"p"}) is (status == 403)
    if status < 500:
        asked = len(world.net["p"].calls)
        world.refusal("e")
        assert len(world.net["p"].calls) == asked


def test_b2_retry_after_of_5xx_is_that_texts_until_others_get_one():
    """B2: firewalls say it too."""
    world = World(one("p"))
    p = world.net["p"]
    p.fault = lambda made: (
        (503, {"retry-after": "30"}, HTML) if text_of(p).startswith(EVIL) else made
    )
    world.refusal(EVIL)
    assert world.embed("harmless").provider == "p"
    world.refusal(EVIL)
    world.refusal(f"{EVIL} too")
    asked = len(p.calls)
    world.refusal("harmless two")
    assert len(p.calls) == asked


def text_of(p):
    return p.calls[-1].body["input"][0]


@pytest.mark.parametrize("status", [403, 405])
def test_b2_same_text_in_other_sizes_is_one_text(status):
    """B2: its keys differ."""
    world = World(one("p"))
    disliking(world, status)
    for size in (4, 5, 6, 7):
        world.refusal(EVIL, dimensions=size)
    assert world.service.health() == {"p": "ok"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"message": "no", "code": "invalid_api_key"}}),
        (401, {"detail": "Provided API key is invalid."}),
        (403, {"error": {"message": "no", "type": "permission_error"}}),
        # Siblings.
        (403, {"error": {"message": "no", "code": "invalid_api_key"}}),
        (403, {"error": {"message": "no", "status": "PERMISSION_DENIED"}}),
    ],
)
def test_b2_key_is_refused_by_providers_own_form(status, body):
    """B2: at once."""
    world = World(one("p"))
    world.net["p"].fault = lambda _: (status, {}, body)
    world.refusal("a")
    assert world.service.health() == {"p": "key_refused"}


def test_b2_filters_403_in_its_own_form_is_that_texts():
    """B2."""
    world = World(one("p"))
    disliking(world, 403, {"error": {"message": "policy", "code": "content_filter"}})
    assert "policy" in world.refusal(EVIL).message
    assert world.service.health() == {"p": "ok"}


def test_b2_batch_with_text_that_is_refused_counts_as_that_text():
    """B2: however its neighbours change."""
    world = World(one("p"))
    disliking(world, 500)
    for number in range(3):
        world.refusal(EVIL, f"{number}")
    assert world.service.health() == {"p": "ok"}


def test_b2_neighbour_of_failing_text_is_answered():
    """B2: what was asked for together is asked for alone."""
    world = World(one("p"))
    disliking(world, 403)
    refused, fine = world.together((EVIL, "shared"), ("shared",))
    assert isinstance(refused, errors.Refused)
    assert fine.items == 1


def test_b2_wrong_new_key_by_403_without_form_is_told_by_one_before():
    """B2: the same text succeeds with the other key."""
    key = ApiKey(current="sk-wrong", previous=stand_in.KEY, previous_until=1000.0)
    world = World(one("p"), keys={"p": key})
    p = world.net["p"]
    p.key = None
    p.fault = lambda made: (403, {}, HTML) if p.calls[-1].key == "sk-wrong" else made
    assert world.embed("a").attempts == 2
    assert world.service.refused_keys() == {"p"}


# --- what outlives an edit


def policy(*providers, **cool_down):
    return document.PolicyDocument(namespace="n", name="p", providers=providers, **cool_down)


P = one("p", kind="OpenAICompatible")
KEY = {"p": "sk-one"}


def down():
    return errors.Unreachable("no_connection", billed=False)


def taught():
    states = ProviderStates()
    states.follow(policy(P), KEY, now=0.0)
    for _ in range(breaker.FAILURES_TO_OPEN):
        states.breaker.failed("p", down(), now=1.0)
    states.takes_no_encoding("p", now=1.0)
    states.ignores_dimensions("p", 384, now=1.0)
    states.refused["p"] = 11.0
    return states


def test_b2_knowledge_of_provider_outlives_edit():
    """B2, house.md 2.3."""
    states = taught()
    edited = policy(P, one("q"), log_level="debug", quota=document.Quota(daily_requests=1))
    states.follow(edited, KEY, now=2.0)
    assert states.breaker.cool_down("p", now=2.0) is not None
    assert states.is_plain("p", now=2.0)
    assert states.own_size("p", clock=lambda: 2.0) == 384
    assert "p" in states.refused


@pytest.mark.parametrize(
    "other",
    [
        policy(one("p")),
        policy(one("q")),
        document.PolicyDocument(namespace="n", name="other", providers=(P,)),
    ],
)
def test_b2_another_provider_of_name_begins_anew(other):
    """B2: type, address or policy are others."""
    states = taught()
    states.follow(other, {}, now=2.0)
    assert states.breaker.cool_down("p", now=2.0) is None
    assert not states.is_plain("p", now=2.0)
    assert states.own_size("p", clock=lambda: 2.0) is None
    assert states.refused == {}


def test_b2_another_model_forgets_what_was_models():
    """B2."""
    states = taught()
    states.follow(policy(one("p", "other", kind="OpenAICompatible")), KEY, now=2.0)
    assert states.own_size("p", clock=lambda: 2.0) is None
    assert states.breaker.cool_down("p", now=2.0) is not None


def test_b2_new_key_is_tried_at_once_where_old_one_was_why():
    """B2: a person acted."""
    states = ProviderStates()
    states.follow(policy(P), KEY, now=0.0)
    states.breaker.failed("p", errors.ConfigurationError(errors.KEY_REFUSED), now=1.0)
    states.refused["p"] = 11.0
    states.follow(policy(P), {"p": "sk-two"}, now=2.0)
    assert states.breaker.cool_down("p", now=2.0) is None
    assert states.refused == {}


def test_b2_new_key_does_not_shorten_what_retry_after_said():
    """B2."""
    states = ProviderStates()
    states.follow(policy(P), KEY, now=0.0)
    states.breaker.failed("p", errors.RateLimited("rate_limited", retry_after_seconds=30), now=1.0)
    states.follow(policy(P), {"p": "sk-two"}, now=2.0)
    assert states.breaker.cool_down("p", now=2.0) is not None
