"""What an answer of the API server that is no success means: does a retry help?"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from embedding_operator import errors


def away(error: Exception) -> errors.Unavailable:
    """The API server gave no answer."""
    # Not str(error): it may quote the request.
    return errors.Unavailable(
        f"the API server does not answer ({type(error).__name__})", reason="APIServerAway"
    )


def of(status: int, raw: bytes, headers: Mapping[str, str], request: str) -> errors.OperatorError:
    """The API server answered `request`, method and path, with this status."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = {}
    # A refusal of a Secret may quote its content; its reason does not.
    told = answer.get("reason", "") if "/secrets" in request else answer.get("message", "")
    message = f"{request}: {status} {told}".strip()
    if status == HTTPStatus.CONFLICT:
        return errors.Unavailable(message, reason="Conflict")
    if status == HTTPStatus.GONE:
        return errors.Unavailable(message, reason="Expired")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = headers.get("Retry-After", "")
        seconds = float(after) if after.isdecimal() else None
        return errors.Unavailable(message, reason="APIServerBusy", retry_after_seconds=seconds)
    return errors.Denied(message)
