"""Error answers of the API server as our errors, by whether a retry helps."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from embedding_operator import errors

QUOTA_EXCEEDED: Final = "ObjectQuotaExceeded"
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
_QUOTA: Final = re.compile(r"exceeded quota: ([a-z0-9.-]{1,253})")
_LIMITED: Final = re.compile(r", (limited: [a-zA-Z0-9./,= -]{1,200})$")
"""The wording of plugin/pkg/admission/resourcequota/controller.go of Kubernetes."""


def away(error: Exception) -> errors.Unavailable:
    """The error for a missing answer."""
    # Not str(error): it may quote the request.
    return errors.Unavailable(
        f"the API server does not answer ({type(error).__name__})", reason="APIServerAway"
    )


def of(status: int, raw: bytes, headers: Mapping[str, str], request: str) -> errors.OperatorError:
    """The error for an answer to `request` (method and path)."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = {}
    # The message about a Secret may quote its content; its reason does not.
    told = answer.get("reason", "") if "/secrets" in request else answer.get("message", "")
    message = f"{request}: {status} {told}".strip()
    if status == HTTPStatus.CONFLICT:
        return errors.Conflict(message)
    if status == HTTPStatus.GONE:
        return errors.Unavailable(message, reason="Expired")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = headers.get("Retry-After", "")
        seconds = float(after) if after.isdecimal() else None
        return errors.Unavailable(message, reason="APIServerBusy", retry_after_seconds=seconds)
    said, reason = _refusal(answer, message, request)
    return errors.Denied(said, reason=reason)


def _refusal(answer: Mapping[str, Any], message: str, request: str) -> tuple[str, str]:
    """The message and the reason of a refusal: a quota of objects, a namespace that goes, or else.

    The names of a quota and of its resources quote nothing of an object.
    """
    told = str(answer.get("message", ""))
    if found := _QUOTA.search(told):
        limits = _LIMITED.search(told)
        said = f"{request}: the ResourceQuota {found[1]} of the namespace is used up"
        return f"{said}, {limits[1]}" if limits else said, QUOTA_EXCEEDED
    details = answer.get("details") or {}
    causes = [it.get("reason") for it in details.get("causes") or () if isinstance(it, dict)]
    if "NamespaceTerminating" in causes:
        return f"{request}: the namespace is being deleted", NAMESPACE_TERMINATING
    return message, "Refused"
