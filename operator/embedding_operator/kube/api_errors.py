"""Error answers of the API server as our errors, by whether a retry helps."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from embedding_operator import errors


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
    return errors.Denied(message)
