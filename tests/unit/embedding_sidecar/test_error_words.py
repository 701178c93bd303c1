"""A provider's message reaches caller and log, in any form, bounded, without secrets (B6, B7)."""

import gzip
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.api import response_headers
from embedding_sidecar.translation import error_words
from tests.fakes import provider as stand_in
from tests.parts.world import World, one

FORMS = {
    "OpenAI": {"error": {"message": "no such thing", "type": "t", "param": None, "code": None}},
    "text": {"error": "no such thing"},
    "vLLM": {"object": "error", "message": "no such thing", "type": "BadRequestError", "code": 400},
    "Mistral": {"message": "no such thing", "type": "invalid_request"},
    "Voyage": {"detail": "no such thing"},
    # Siblings.
    "FastAPI": {"detail": [{"loc": ["body", "input"], "msg": "no such thing", "input": "secret"}]},
    "Gemini": [{"error": {"code": 400, "message": "no such thing", "status": "INVALID_ARGUMENT"}}],
    "nested": {"error": {"error": {"message": "no such thing"}}},
    "list": {"errors": [{"message": "no such thing"}]},
    "plain": b"no such thing",
    "HTML": b"<html><head><style>p{}</style></head><body><p>no such\n thing</p></body></html>",
    "BOM": b"\xef\xbb\xbf" + json.dumps({"error": "no such thing"}).encode(),
}
KINDS = ["OpenAI", "Voyage", "OpenAICompatible"]


def answering(world, status, body):
    world.net["p"].fault = lambda _: (status, {}, body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_b7_words_of_400_reach_caller_in_any_form(form, kind):
    """B7."""
    world = World(one("p", kind=kind))
    answering(world, 400, FORMS[form])
    refusal = world.refusal("a")
    assert refusal.status == 400
    assert "no such thing" in refusal.message
    assert "secret" not in refusal.message


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_b7_words_of_failure_reach_caller_and_log(status, caplog):
    """B7."""
    world = World(one("p"))
    answering(world, status, FORMS["text"])
    with caplog.at_level(logging.WARNING, logger="embedding_sidecar"):
        assert "no such thing" in world.refusal("a").message
    lines = [it.getMessage() for it in caplog.records if "no such thing" in it.getMessage()]
    # Three calls, perhaps; one line.
    assert len(lines) == 1
    assert "provider p" in lines[0]


SECRETS = [
    "sk-abcdefgh12345678",
    "sk-proj-abc_DEF-1234567890abcdef",
    "pa-ABCDEF1234567890",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "hf_abcdefghijklmnop12",
    "0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("said", ["Incorrect API key provided: {}.", "Bearer {} is bad", "({})"])
def test_b7_text_that_looks_like_key_is_hidden(secret, said):
    """B7."""
    cleaned = error_words.cleaned(said.format(secret))
    assert secret not in cleaned
    assert error_words.HIDDEN in cleaned


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8192 tokens, however you requested 10000 tokens.",
        "batch size 100 > maximum allowed batch size 32",
        "at most 10 texts are allowed",
        "The model text-embedding-3-small does not exist",
        "Unsupported parameter: encoding_format",
    ],
)
def test_b7_words_that_help_stay_as_they_are(said):
    """B7."""
    assert error_words.cleaned(said) == said


def test_b7_our_own_key_and_texts_are_in_no_words(caplog):
    """B7: whatever the key looks like, and wherever a server echoes what it was sent."""
    text = "my private\nletter to you"
    world = World(one("p", kind="OpenAICompatible"), keys={"p": "tenwords"})
    world.net["p"].key = None
    answering(world, 400, {"error": f"bad: my private letter to you, by tenwords, {text}"})
    with caplog.at_level(logging.WARNING, logger="embedding_sidecar"):
        said = world.refusal(text).message + caplog.text
    assert "private" not in said
    assert "tenwords" not in said
    assert "bad: " in said


def test_b7_our_own_key_is_in_no_field_either():
    """B7: it may look like no key."""
    world = World(one("p", kind="OpenAICompatible"), keys={"p": "tenwords"})
    world.net["p"].key = None
    fields = {"message": "no", "code": "not_tenwords", "param": "tenwords"}
    answering(world, 400, {"error": fields})
    refused = world.refusal("a")
    assert (refused.code, refused.param) == ("not_***", "***")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"vectors" * 9, mtime=0), '{"data": []}'.encode("utf-16"), bytes(range(256))],
    ids=["gzip", "utf-16", "bytes"],
)
def test_b7_body_that_is_no_text_has_no_words(body):
    """B7: such as a body whose coding no header names."""
    assert error_words.said(body) == ""


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["error", "message", "detail", "errors", "msg", "loc"]), inner
                )
            ),
        ).map(lambda it: json.dumps(it).encode()),
    )
)
def test_b7_words_are_bounded_and_of_one_line(body):
    """B7: of whatever body."""
    said = error_words.said(body)
    assert len(said) <= error_words.MAX_CHARACTERS
    assert not any(character in said for character in "\r\n\0\x1b")
    assert error_words.cleaned(said * 100) is not None


def test_b7_long_words_are_cut_and_key_at_cut_is_not_shown():
    """B7."""
    said = error_words.cleaned("x " * 495 + "sk-abcdefgh12345678 and more " * 50)
    assert len(said) <= error_words.MAX_CHARACTERS
    assert "abcdefgh" not in said


# --- B6


def refuses_encoding(body, status=400):
    """A fault: what asks for an encoding is refused so."""

    def attach(world):
        p = world.net["p"]
        p.fault = lambda made: (status, {}, body) if "encoding_format" in p.calls[-1].body else made

    return attach


REFUSALS = [
    {"error": {"message": "Unsupported parameter", "param": "encoding_format"}},
    {"detail": "Value 'base64' is not supported"},
    # Siblings.
    {"detail": [{"loc": ["body", "encoding_format"], "msg": "Extra inputs are not permitted"}]},
    b"unknown field encoding_format",
]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("body", REFUSALS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [["a"], ["a", "b"]])
def test_b6_refused_encoding_is_left_out_and_remembered(status, body, kind, texts):
    """B6."""
    world = World(one("p", kind=kind))
    refuses_encoding(body, status)(world)
    assert world.embed(*texts).attempts == 2
    assert world.embed("other").attempts == 1
    assert ["encoding_format" in call.body for call in world.net["p"].calls] == [True, False, False]
    assert [billed for billed, _ in world.quota.settled] == [False, True, True]


def test_b6_refusal_that_persists_without_field_is_not_remembered():
    """B6: a text of its caller may hold the word."""
    world = World(one("p"))
    answering(world, 400, {"error": {"message": "encoding_format? no: bad text"}})
    assert "bad text" in world.refusal("a").message
    world.net["p"].fault = None
    world.embed("b")
    assert "encoding_format" in world.net["p"].calls[-1].body


def test_b6_encoding_format_is_tried_again_after_pause():
    """B6: servers are updated."""
    world = World(one("p"))
    refuses_encoding(REFUSALS[0])(world)
    world.embed("a")
    world.net["p"].fault = None
    world.loop.pass_time(601)
    world.embed("b")
    assert "encoding_format" in world.net["p"].calls[-1].body


# --- B11, A6


def test_b11_429_has_openais_types():
    """B11."""
    world = World(one("p"))
    world.net["p"].fault = stand_in.status(429)
    assert (world.refusal("a").kind, world.refusal("a").code) == (
        "requests",
        "rate_limit_exceeded",
    )
    spent = World(one("p"))
    spent.net["p"].fault = stand_in.status(402)
    assert spent.refusal("a").kind == "insufficient_quota"


@pytest.mark.parametrize(
    "fault", [stand_in.raw(b"<html>"), stand_in.status(401), stand_in.status(500)]
)
def test_b11_all_providers_failed_is_502_and_speaks_of_no_reaching(fault):
    """B11."""
    world = World(one("p"))
    world.net["p"].fault = fault
    refusal = world.refusal("a")
    assert (refusal.status, refusal.code) == (502, "all_providers_failed")
    assert "reached" not in refusal.message


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (stand_in.raw(b"<html>"), "false"),
        (stand_in.changed(lambda body: body["data"].pop()), "false"),
        # Siblings: what waiting does not cure.
        (stand_in.status(402), "false"),
        (stand_in.status(401), "false"),
        (stand_in.status(500), None),
        (stand_in.status(429), None),
        (errors.Unreachable("no_connection", billed=False), None),
    ],
)
def test_a6_answer_paid_in_vain_is_marked_not_to_be_retried(fault, said):
    """A6."""
    world = World(one("p"))
    world.net["p"].fault = fault
    assert response_headers.refusal_headers(world.refusal("a")).get("x-should-retry") == said
