"""Jina's wire: tasks, its own field for bits, and codes at the top of its errors."""

import pytest

from embedding_sidecar import errors
from tests.fakes import provider as stand_in
from tests.parts import wire
from tests.parts.world import World, one

MODEL = "jina-embeddings-v3"


def test_request_is_jinas_and_refuses_long_texts():
    made = wire.request("Jina", MODEL, "a")
    assert made.url == "https://api.jina.ai/v1/embeddings"
    assert wire.body("Jina", MODEL, "a", "b", dimensions=64, user="u") == {
        "model": MODEL,
        "input": ["a", "b"],
        "embedding_type": "base64",
        "dimensions": 64,
        "truncate": False,
    }
    assert wire.body("Jina", MODEL, "a", truncation=True)["truncate"] is True
    assert "embedding_type" not in wire.body("Jina", MODEL, "a", plain=True)


@pytest.mark.parametrize(
    ("model", "input_type", "task"),
    [
        (MODEL, "query", "retrieval.query"),
        (MODEL, "document", "retrieval.passage"),
        (MODEL, None, None),
        ("jina-embeddings-v5-text-small", "query", "retrieval.query"),
        ("jina-embeddings-v2-base-en", "query", None),
    ],
)
def test_side_is_told_by_task_where_model_has_tasks(model, input_type, task):
    assert wire.body("Jina", model, "a", input_type=input_type).get("task") == task


def test_usage_is_its_one_number():
    said = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"total_tokens": 4}}
    assert wire.vectors("Jina", MODEL, said).tokens == 4


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (401, "AUTH_INVALID_API_KEY", errors.ConfigurationError, errors.KEY_REFUSED),
        (403, "AUTHZ_INSUFFICIENT_BALANCE", errors.OutOfCredit, "no_credit"),
        (403, "AUTHZ_RESOURCE_LIMIT_EXCEEDED", errors.Declined, "forbidden"),
        (400, "INPUT_MODEL_NOT_FOUND", errors.ConfigurationError, "not_found"),
        (400, "INPUT_TOKEN_LIMIT_EXCEEDED", errors.Rejected, "INPUT_TOKEN_LIMIT_EXCEEDED"),
        (409, "CONFLICT_RESOURCE_BUSY", errors.Unreachable, "server_error"),
        (429, "RATE_TOKEN_LIMIT_EXCEEDED", errors.RateLimited, "rate_limited"),
        (429, "RATE_CONCURRENCY_LIMIT_EXCEEDED", errors.RateLimited, "rate_limited"),
    ],
)
@pytest.mark.parametrize("within", [None, "detail"])
def test_error_is_told_by_its_code(status, code, kind, reason, within):
    error = {"code": code, "message": "m"}
    said = error if within is None else {within: error}
    assert wire.meaning("Jina", status, said) == (kind, reason)


def test_older_form_has_words_only():
    found = wire.failure("Jina", 400, {"detail": "Input text is too long"})
    assert isinstance(found, errors.Rejected)
    assert found.message == "Input text is too long"


def test_refused_encoding_is_asked_for_as_floats():
    world = World(one("p", kind="Jina"))
    p = world.net["p"]

    def fault(made):
        refused = p.calls[-1].body.get("encoding_format") == "base64"
        return (
            (400, {}, {"error": {"message": "embedding_type: not permitted"}}) if refused else made
        )

    p.fault = fault
    told = stand_in.side("Jina", None)
    assert world.embed("a").vectors == (stand_in.vector("m", "a", input_type=told),)
    assert len(p.calls) == 2
