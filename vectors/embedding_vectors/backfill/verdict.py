"""The meaning of a refusal of the sidecar for the rows of the request. No IO."""

import enum
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from embedding_contract.index_report import Problem
from embedding_vectors.embedding_client import EmbeddingRefusedError

_OF_A_TEXT: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
MODEL_UNKNOWN: Final = "model_not_found"
QUOTA_SECONDS: Final = 60
"""The wait for a quota that does not say when it is reset."""


class Fault(enum.Enum):
    """The cause of a refusal."""

    TEXT = "text"
    """One of the texts: halve the batch, until it is alone."""
    TARGET = "target"
    """The target's model, or the form of its requests: no row of it can be embedded."""
    QUOTA = "quota"
    """The policy's daily quota is used up, or the rest is reserved: wait."""
    PROVIDER = "provider"
    """Provider or sidecar: wait, and blame no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The cause of a refusal, and the wait where the refusal named one."""

    fault: Fault
    problem: Problem
    wait_seconds: float | None = None


def of(refusal: EmbeddingRefusedError, *, model: str) -> Verdict:
    """The meaning of a refusal. Its status and typed fields decide, never its words."""
    if refusal.is_quota:
        problem = Problem(
            reason="QuotaExhausted",
            message="the policy's quota leaves nothing for the background",
            is_warning=True,
        )
        wait = QUOTA_SECONDS if refusal.retry_after_seconds is None else refusal.retry_after_seconds
        return Verdict(fault=Fault.QUOTA, problem=problem, wait_seconds=wait)
    if refusal.status == HTTPStatus.NOT_FOUND and refusal.code == MODEL_UNKNOWN:
        problem = Problem(reason="ModelMissing", message=f"the policy has no model {model}")
        return Verdict(fault=Fault.TARGET, problem=problem)
    if refusal.status in _OF_A_TEXT:
        if (refusal.param or "input").startswith("input"):
            problem = Problem(reason="TextRefused", message="a text was refused", is_warning=True)
            return Verdict(fault=Fault.TEXT, problem=problem)
        message = f"requests for {model} are refused for their {refusal.param}"
        return Verdict(
            fault=Fault.TARGET, problem=Problem(reason="RequestRefused", message=message)
        )
    status = "no answer" if refusal.status is None else f"status {refusal.status}"
    problem = Problem(
        reason="ProviderFailing",
        message=f"{model}: {status}{f', {refusal.code}' if refusal.code else ''}",
        is_warning=True,
    )
    return Verdict(fault=Fault.PROVIDER, problem=problem, wait_seconds=refusal.retry_after_seconds)
