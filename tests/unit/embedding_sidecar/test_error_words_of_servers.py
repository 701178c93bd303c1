"""Messages of real servers: model names are read, and no text is, however a body was cut (B7)."""

import json
import logging

import pytest

from embedding_sidecar import errors
from embedding_sidecar.translation import error_words
from embedding_sidecar.upstream import answer_body
from tests.fakes import provider as stand_in
from tests.parts.world import World, one

MODELS = [
    "all-MiniLM-L6-v2",
    "paraphrase-multilingual-MiniLM-L12-v2",
    "jina-embeddings-v2-base-en",
    "codestral-embed-2505",
    "portuguese-multilingual-e5-small-q4",
    "snowflake-arctic-embed-l-v2.0",
    "nvidia/llama-3.2-nemoretriever-300m-embed-v2",
    "text-embedding-ada-002-v2-of-2023",
]
KEYS = [
    "0123456789abcdef0123456789abcdef",
    "kUFNVgQ01v4gYqNHWn3VmKjF0r2ZbXe9",
    "jina_0123456789abcdef0123456789abcdefAbCd",
    "nvapi-0aB1cD2eF3gH4iJ5kL6mN7oP8",
    "pa-A1b2C3d4E5f6G7h8",
]


def infinity(*texts, words_of="List should have at most 32 items"):
    """How FastAPI refuses: with all that was sent."""
    place = ["body", "text", "input", "list[constrained-str]"]
    detail = [{"type": "too_long", "loc": place, "msg": words_of, "input": list(texts)}]
    return json.dumps({"detail": detail}).encode()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "said", ["The model `{}` does not exist.", "{} has no other sizes", "({})"]
)
def test_b7_name_of_model_can_be_read(model, said):
    """B7: a run of letters and digits is no key when it has hyphens."""
    assert error_words.cleaned(said.format(model)) == said.format(model)


@pytest.mark.parametrize("key", KEYS)
def test_b7_keys_are_hidden_with_prefix_and_without(key):
    """B7."""
    assert key[5:] not in error_words.cleaned(f"The key ({key}) is not known.")


def test_b7_number_after_word_token_is_no_key():
    """B7: it is a limit."""
    assert error_words.cleaned("at most (token: 131072)") == "at most (token: 131072)"


@pytest.mark.parametrize("kept", [200, 1_000, answer_body.MAX_KEPT_BYTES])
def test_b7_cut_body_gives_words_and_no_texts(kept):
    """B7: Infinity's 422 repeats every text, and no more than a beginning of it is kept."""
    sent = [f"private {number}" for number in range(9_000)]
    said = error_words.said(infinity(*sent)[:kept])
    assert said == "List should have at most 32 items"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "too \\"long\\"", "input": "abc', 'too "long"'),
        (b'{"input": "a \\"message\\": \\"private\\" b", "error": "bad", "x": "', "bad"),
        (b'[{"error": {"code": 400, "message": "bad", "details": [{"x": "', "bad"),
        (b'{"input": "\\"msg\\": \\"private\\"', ""),
        (b'{"error": "cut in the wor', ""),
    ],
)
def test_b7_only_whole_words_of_beginning_are_said(body, said):
    """B7: what stands within a text has its quotes escaped."""
    assert error_words.said(body) == said


def test_b7_401_whose_body_was_cut_is_about_key_anyway():
    """B7."""
    assert error_words.has_form(b'{"detail": "Unauthorized", "trace": "' + b"x" * 70_000)
    assert not error_words.has_form(b'{"trace": "' + b"x" * 70_000)


def test_b7_text_that_server_cuts_is_not_shown(caplog):
    """B7: a sibling of the text that is shown whole."""
    text = "my private letter to you, which is much longer than this"
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = lambda _: (400, {}, {"error": f"bad text: {text[:40]}... (cut)"})
    with caplog.at_level(logging.WARNING, logger="embedding_sidecar"):
        message = world.refusal(text).message
    assert message == "bad text: ...... (cut)"
    assert "private" not in caplog.text


def test_b7_no_beginning_of_text_is_shown_however_often_it_is_said():
    """B7: vLLM says it twice."""
    text = "my private letter to you, which is much longer than this"
    said = f"bad: {text[:40]}... and {text[:30]}!"
    assert error_words.without(said, key=None, texts=[text]) == "bad: ...... and ...!"


@pytest.mark.parametrize("before", ["", " " * 300, "a" + "\n" * 300])
def test_b7_spaces_before_text_hide_nothing_from_us(before):
    """B7: a text is on one line in the words."""
    text = f"{before}my private letter to you"
    said = error_words.cleaned(f"bad: {text}")
    assert "private" not in error_words.without(said, key=None, texts=[text])


@pytest.mark.parametrize("written", [repr, json.dumps], ids=["vLLM, by repr", "JSON in a message"])
def test_b7_text_that_server_escapes_is_not_shown(written):
    """B7: vLLM's words of a bad request end in all that was sent, as Python writes it."""
    text = "my private\nletter\tto you, which\r\nis longer than a line"
    world = World(one("p", kind="OpenAICompatible"))
    said = f"1 validation error: {{'input': {written([text])}}}"
    world.net["p"].fault = lambda _: (400, {}, {"error": {"message": said, "code": 400}})
    message = world.refusal(text).message
    assert message.startswith("1 validation error")
    for word in ("private", "letter", "longer"):
        assert word not in message


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Unexpected endpoint or method. (POST /embeddings)"},
        {
            "code": 20042,
            "message": "Unexpected endpoint or method. (POST /embeddings)",
            "data": None,
        },
        b"<html><title>Unexpected endpoint or method. (POST /embeddings)</title></html>",
    ],
    ids=["LM Studio", "SiliconFlow", "a page"],
)
def test_b7_words_of_200_without_vectors_reach_caller_and_log(body, caplog):
    """B7, B11: LM Studio answers 200 to any path."""
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = lambda _: (200, {}, body)
    with caplog.at_level(logging.WARNING, logger="embedding_sidecar"):
        refusal = world.refusal("a")
    assert (refusal.status, refusal.code) == (502, "all_providers_failed")
    assert "Unexpected endpoint or method" in refusal.message
    assert "Unexpected endpoint or method" in caplog.text


def test_b7_text_in_200_without_vectors_is_not_shown():
    """B7: an echo is one under any status."""
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = lambda _: (200, {}, {"error": "cannot embed: my private letter"})
    assert "private" not in world.refusal("my private letter").message


GEMINI_KEY = [
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
        }
    }
]


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, GEMINI_KEY),
        # Siblings.
        (400, {"error": {"message": "no", "type": "authentication_error"}}),
        (422, {"error": {"message": "no", "code": "invalid_api_key"}}),
        (404, {"error": {"message": "no", "type": "permission_denied"}}),
    ],
)
def test_b2_key_that_is_refused_by_another_status_is_keys_fault(status, body, texts):
    """B2: the typed fields say so; nothing is halved, and nobody is told that their text is bad."""
    world = World(one("p", kind="OpenAICompatible"), keys={"p": stand_in.KEY})
    world.net["p"].fault = lambda _: (status, {}, body)
    refusal = world.refusal(*texts)
    assert (refusal.status, refusal.code) == (502, "all_providers_failed")
    assert "key_refused" in refusal.message
    assert len(world.net["p"].calls) == 1
    assert world.service.refused_keys() == {"p"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, {"code": "DeploymentNotFound"}),
        (404, {"type": "NotFoundError", "code": 404}),
        (404, {"type": "not_found_error"}),
        (404, {"status": "NOT_FOUND", "code": 404}),
        (400, {"type": "invalid_model", "code": "1500"}),
        (400, {"code": "model_not_found", "param": "model"}),
    ],
    ids=["Azure", "vLLM", "Ollama", "Gemini", "Mistral", "LM Studio"],
)
def test_b2_error_about_model_is_no_texts_fault(status, error):
    """B2: it is known after one call, also of a batch."""
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = lambda _: (status, {}, {"error": {"message": "no such model", **error}})
    assert "no such model" in world.refusal("c", "d", "e", "f").message
    for text in ("a", "b"):
        assert "no such model" in world.refusal(text).message
    assert len(world.net["p"].calls) == 1


def limited(**error):
    return lambda _: (429, {}, [{"error": {"message": "no", "code": 429, **error}}])


def waits(refusal):
    """Seconds that a caller of a used up provider is told to wait."""
    assert isinstance(refusal, errors.Unavailable)
    assert refusal.status == 429
    return refusal.retry_after_seconds


def test_429_says_in_googles_form_how_long_to_wait():
    world = World(one("p", kind="OpenAICompatible"))
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "25.5s"}
    world.net["p"].fault = limited(details=[{"reason": "x"}, detail])
    assert waits(world.refusal("a")) == 25.5


@pytest.mark.parametrize("details", [None, "25s", [25], [{"retryDelay": 25}], [{"retryDelay": ""}]])
def test_429_that_says_no_time_in_its_body_is_tried_again(details):
    world = World(one("p", kind="OpenAICompatible"))
    world.net["p"].fault = limited(details=details)
    assert waits(world.refusal("a")) is None
    assert len(world.net["p"].calls) == 3
