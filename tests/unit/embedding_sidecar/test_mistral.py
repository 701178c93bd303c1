"""Mistral's wire: OpenAI's with fewer fields, and errors of three forms."""

import pytest

from embedding_sidecar import errors
from tests.parts import wire

MODEL = "codestral-embed"


def test_request_has_no_field_that_mistral_refuses():
    made = wire.request("Mistral", MODEL, "a")
    assert made.url == "https://api.mistral.ai/v1/embeddings"
    asked = {"dimensions": 8, "user": "u", "input_type": "query", "truncation": True}
    assert wire.body("Mistral", MODEL, "a", "b", **asked) == {
        "model": MODEL,
        "input": ["a", "b"],
        "encoding_format": "base64",
        "output_dimension": 8,
    }


def test_usage_is_read_beside_numbers_that_are_null():
    said = {
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}],
        "usage": {"prompt_audio_seconds": None, "prompt_tokens": 3, "total_tokens": 3},
    }
    assert wire.vectors("Mistral", MODEL, said).tokens == 3


def error(**fields):
    return {"object": "error", "message": "m", "param": None, **fields}


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (401, {"detail": "Unauthorized"}, errors.ConfigurationError, errors.KEY_REFUSED),
        (
            400,
            error(type="invalid_model", code="1500"),
            errors.ConfigurationError,
            "not_found",
        ),
        (400, error(type="invalid_request_prompt", code="3210"), errors.Rejected, "3210"),
        (422, {"detail": [{"loc": ["body"], "msg": "m", "input": "x"}]}, errors.Rejected, ""),
        (429, error(type="rate_limited", code="1300"), errors.RateLimited, "rate_limited"),
        (429, error(type="rate_limited", code="3505"), errors.RateLimited, "rate_limited"),
        (402, {"detail": "unpaid"}, errors.OutOfCredit, "no_credit"),
        (500, error(type="server_error", code="1000"), errors.Unreachable, "server_error"),
    ],
)
def test_error_is_told_by_kind(status, body, kind, reason):
    assert wire.meaning("Mistral", status, body) == (kind, reason)
