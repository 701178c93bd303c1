"""Cohere's wire: sides, bits, billed units, and errors that have a message only."""

import base64
import struct

import pytest

from embedding_sidecar import errors
from tests.fakes import provider as stand_in
from tests.parts import wire
from tests.parts.world import World, one

MODEL = "embed-v4.0"
PACKED = [struct.pack("<2f", 0.1, 3.0), struct.pack("<2f", 0, -2.5)]


def test_request_says_all_that_cohere_would_choose_itself():
    made = wire.request("Cohere", MODEL, "a", "b")
    assert (made.url, made.headers["authorization"]) == (
        "https://api.cohere.com/v2/embed",
        "Bearer secret",
    )
    assert wire.body("Cohere", MODEL, "a", "b") == {
        "model": MODEL,
        "texts": ["a", "b"],
        "embedding_types": ["base64"],
        "input_type": "search_document",
        "truncate": "NONE",
    }


@pytest.mark.parametrize(
    ("input_type", "word"),
    [("query", "search_query"), ("document", "search_document"), ("passage", "search_document")],
)
def test_side_has_coheres_word(input_type, word):
    assert wire.body("Cohere", MODEL, "a", input_type=input_type)["input_type"] == word


def test_fields_are_coheres_own():
    asked = {"dimensions": 256, "truncation": True, "user": "u", "plain": True}
    body = wire.body("Cohere", MODEL, "a", **asked)
    assert (body["output_dimension"], body["truncate"]) == (256, "END")
    assert body["embedding_types"] == ["float"]
    assert not body.keys() & {"user", "dimensions", "encoding_format", "input"}


@pytest.mark.parametrize(
    "embeddings",
    [
        {"base64": [base64.b64encode(it).decode() for it in PACKED]},
        {"float": [struct.unpack("<2f", it) for it in PACKED]},
    ],
    ids=["base64", "float"],
)
def test_vectors_are_read_beside_echoed_texts(embeddings):
    said = {
        "id": "x",
        "texts": ['{"embeddings":{"base64":["AAAA"]}}', "b"],
        "embeddings": embeddings,
        "meta": {"billed_units": {"input_tokens": 7}},
    }
    found = wire.vectors("Cohere", MODEL, said, count=2)
    assert (found.vectors, found.tokens) == (tuple(PACKED), 7)


@pytest.mark.parametrize(
    ("meta", "tokens"),
    [
        ({"billed_units": {"input_tokens": 7.0}}, 7),
        ({"billed_units": {"input_tokens": -7}}, None),
        ({"billed_units": {"input_tokens": True}}, None),
        ({"billed_units": {"images": 1}}, None),
        ({"billed_units": None}, None),
        ({"api_version": {"version": "2"}}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_what_is_billed_or_left_to_bound(meta, tokens):
    said = {"embeddings": {"float": [[1.0]]}, "meta": meta}
    assert wire.vectors("Cohere", MODEL, said).tokens == tokens


@pytest.mark.parametrize(
    "embeddings",
    [None, [], {}, {"int8": [[1]]}, {"float": None}, {"base64": [7]}, {"base64": ["AAAA", "AAAA"]}],
    ids=str,
)
def test_answer_without_vectors_is_no_answer(embeddings):
    with pytest.raises(errors.Unusable):
        wire.vectors("Cohere", MODEL, {"embeddings": embeddings})


TRIAL = "You are using a Trial key, which is limited to 1000 API calls / month."


@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (400, "invalid request: total number of texts must be at most 96", errors.Rejected, ""),
        (422, "no", errors.Rejected, ""),
        (401, "invalid api token", errors.ConfigurationError, errors.KEY_REFUSED),
        (402, "billing limit reached", errors.OutOfCredit, "no_credit"),
        (403, "no", errors.Declined, "forbidden"),
        (404, "model 'embed-v9' not found", errors.ConfigurationError, "not_found"),
        (429, "You are past the per minute request limit", errors.RateLimited, "rate_limited"),
        (429, TRIAL, errors.OutOfCredit, "no_credit"),
        # A token on a list of words that are denied: of one text.
        (498, "blocked", errors.Declined, "refused"),
        (499, "request cancelled", errors.Unreachable, "server_error"),
        (500, "internal", errors.Unreachable, "server_error"),
        (503, "away", errors.Unreachable, "server_error"),
    ],
)
def test_error_is_told_by_kind_in_its_words(status, message, kind, reason):
    said = {"id": "x", "message": message}
    assert wire.meaning("Cohere", status, said) == (kind, reason)
    found = wire.failure("Cohere", status, said)
    assert message in (found.message if isinstance(found, errors.Rejected) else found.words)


def test_page_of_proxy_is_not_about_model():
    assert wire.meaning("Cohere", 404, b"<html>gone</html>") == (errors.Declined, "not_found")


def test_refused_encoding_is_asked_for_as_floats():
    world = World(one("p", kind="Cohere"))
    p = world.net["p"]

    def fault(made):
        refused = p.calls[-1].body.get("encoding_format") == "base64"
        return (
            (400, {}, {"error": {"message": "embedding_types: not permitted"}}) if refused else made
        )

    p.fault = fault
    told = stand_in.side("Cohere", None)
    assert world.embed("a").vectors == (stand_in.vector("m", "a", input_type=told),)
    assert len(p.calls) == 2
