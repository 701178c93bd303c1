"""Gemini's native wire, and its errors in google.rpc's form."""

import struct

import pytest

from embedding_sidecar import errors
from tests.parts import wire

MODEL = "gemini-embedding-001"
BASE = "https://generativelanguage.googleapis.com/v1beta"


def test_each_text_is_request_of_batch():
    """Several parts of one content would get one vector."""
    assert wire.body("Gemini", MODEL, "a", "b") == {
        "requests": [
            {"model": f"models/{MODEL}", "content": {"parts": [{"text": text}]}}
            for text in ("a", "b")
        ]
    }


@pytest.mark.parametrize("model", [MODEL, f"models/{MODEL}"])
def test_url_and_entries_name_model_once(model):
    made = wire.request("Gemini", model, "a")
    assert made.url == f"{BASE}/models/{MODEL}:batchEmbedContents"
    assert f'"models/{MODEL}"'.encode() in made.body


def test_key_is_sent_in_googles_header_only():
    made = wire.request("Gemini", MODEL, "a")
    assert made.headers["x-goog-api-key"] == "secret"
    assert "authorization" not in made.headers


@pytest.mark.parametrize(
    ("input_type", "task"),
    [("query", "RETRIEVAL_QUERY"), ("document", "RETRIEVAL_DOCUMENT"), (None, None)],
)
def test_side_is_told_by_task(input_type, task):
    [entry] = wire.body("Gemini", MODEL, "a", input_type=input_type)["requests"]
    assert entry.get("taskType") == task


def test_second_model_is_sent_no_task_as_it_knows_none():
    asked = {"input_type": "query", "dimensions": 768, "user": "u", "truncation": True}
    [entry] = wire.body("Gemini", "gemini-embedding-2", "a", **asked)["requests"]
    assert entry.keys() == {"model", "content", "outputDimensionality"}
    assert entry["outputDimensionality"] == 768


def test_passed_field_is_of_each_text():
    passed = (("title", b'"t"'),)
    body = wire.body("Gemini", MODEL, "a", "b", extra=passed)
    assert [it["title"] for it in body["requests"]] == ["t", "t"]
    assert body.keys() == {"requests"}


def test_values_are_read_in_order_to_their_float32_and_not_normalised():
    said = {"embeddings": [{"values": [0.1, 3.0]}, {"values": [0, -2.5e-3]}]}
    found = wire.vectors("Gemini", MODEL, said, count=2)
    assert found.vectors == (struct.pack("<2f", 0.1, 3.0), struct.pack("<2f", 0, -2.5e-3))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"usageMetadata": {"promptTokenCount": 5, "promptTokenDetails": []}}, 5),
        ({"usageMetadata": {}}, None),
        ({"usageMetadata": {"promptTokenCount": -5}}, None),
        ({"usageMetadata": {"promptTokenCount": 10**12}}, None),
        ({"usageMetadata": "5"}, None),
        ({}, None),
    ],
)
def test_usage_is_told_or_left_to_bound(usage, tokens):
    said = {"embeddings": [{"values": [1.0]}], **usage}
    assert wire.vectors("Gemini", MODEL, said).tokens == tokens


def test_one_vector_for_several_texts_is_no_answer():
    with pytest.raises(errors.Unusable):
        wire.vectors("Gemini", MODEL, {"embeddings": [{"values": [1.0]}]}, count=2)


def error(code, status, *details, message="m"):
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


INFO = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
PER_DAY = {"@type": QUOTA, "violations": [{"quotaId": "EmbedContentRequestsPerDay-FreeTier"}]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (
            400,
            error(400, "INVALID_ARGUMENT", {"@type": INFO, "reason": "API_KEY_INVALID"}),
            errors.ConfigurationError,
            errors.KEY_REFUSED,
        ),
        (403, error(403, "PERMISSION_DENIED"), errors.ConfigurationError, errors.KEY_REFUSED),
        # Its country or its billing: a person must act.
        (400, error(400, "FAILED_PRECONDITION"), errors.ConfigurationError, errors.KEY_REFUSED),
        (404, error(404, "NOT_FOUND"), errors.ConfigurationError, "not_found"),
        (400, error(400, "INVALID_ARGUMENT"), errors.Rejected, ""),
        (429, error(429, "RESOURCE_EXHAUSTED"), errors.RateLimited, "rate_limited"),
        (500, error(500, "INTERNAL"), errors.Unreachable, "server_error"),
        (503, error(503, "UNAVAILABLE"), errors.Unreachable, "server_error"),
        (504, error(504, "DEADLINE_EXCEEDED"), errors.Unreachable, "server_error"),
    ],
)
def test_error_is_told_by_kind(status, body, kind, reason):
    assert wire.meaning("Gemini", status, body) == (kind, reason)


def test_wait_is_that_of_retry_info():
    said = error(429, "RESOURCE_EXHAUSTED", PER_DAY, {"@type": RETRY, "retryDelay": "25s"})
    found = wire.failure("Gemini", 429, said)
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after_seconds == 25
