"""The meaning of a refusal by the sidecar: text, target, quota or provider."""

import pytest

from embedding_vectors.backfill import verdict
from embedding_vectors.backfill.verdict import Fault
from embedding_vectors.embedding_client import EmbeddingRefusedError


@pytest.mark.parametrize(
    ("status", "code", "param", "fault", "reason"),
    [
        (400, None, "input", Fault.TEXT, "TextRefused"),
        (400, None, "input[3]", Fault.TEXT, "TextRefused"),
        (400, None, None, Fault.TEXT, "TextRefused"),
        (413, None, None, Fault.TEXT, "TextRefused"),
        (422, None, None, Fault.TEXT, "TextRefused"),
        (400, None, "dimensions", Fault.TARGET, "RequestRefused"),
        (404, "model_not_found", "model", Fault.TARGET, "ModelMissing"),
        (404, None, None, Fault.PROVIDER, "ProviderFailing"),
        (429, "insufficient_quota", None, Fault.QUOTA, "QuotaExhausted"),
        (429, "quota_reserved_for_applications", None, Fault.QUOTA, "QuotaExhausted"),
        (429, "rate_limit_exceeded", None, Fault.PROVIDER, "ProviderFailing"),
        (502, "all_providers_failed", None, Fault.PROVIDER, "ProviderFailing"),
        (503, "quota_store_unavailable", None, Fault.PROVIDER, "ProviderFailing"),
        (None, None, None, Fault.PROVIDER, "ProviderFailing"),
    ],
)
def test_status_and_code_decide_and_never_words(status, code, param, fault, reason):
    refusal = EmbeddingRefusedError(
        "model_not_found insufficient_quota", status=status, code=code, param=param
    )
    made = verdict.of(refusal, model="small")
    assert (made.fault, made.problem.reason) == (fault, reason)
    assert "insufficient_quota model" not in made.problem.message


def test_wait_that_was_asked_for_is_kept():
    refusal = EmbeddingRefusedError(
        "", status=429, code="insufficient_quota", retry_after_seconds=7200
    )
    assert verdict.of(refusal, model="small").wait_seconds == 7200
    vague = EmbeddingRefusedError("", status=429, code="insufficient_quota")
    assert verdict.of(vague, model="small").wait_seconds == verdict.QUOTA_SECONDS
