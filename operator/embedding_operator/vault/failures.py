"""Failures of a request to Vault: words for a condition, and how far each of them reaches.

A sealed server fails every path: once one read has found that, the others need not ask. A refused
login fails every path of its identity; any other failure is one path's.
"""

import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import requests

from embedding_operator import errors


class Scope(enum.Enum):
    """The reads that a failure stops."""

    SERVER = "server"
    IDENTITY = "identity"
    PATH = "path"


class VaultReadError(Exception):
    """A path cannot be read now, or another request to Vault failed; `cause` says why.

    `final`: Vault has answered, and the values are not available (any more), so the last known ones
    are forgotten. `gone`: Vault certainly holds nothing there. `answered`: Vault itself said so,
    and therefore works. `retry_after_seconds`: how long Vault wants not to be asked. `status` and
    `body` are of Vault's answer, the body a JSON object that may quote the request: never shown.
    """

    def __init__(
        self,
        reason: str,
        cause: str,
        *,
        scope: Scope = Scope.PATH,
        final: bool = False,
        gone: bool = False,
        answered: bool = True,
        retry_after_seconds: float = 0.0,
        status: int | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.scope = scope
        self.final = final or gone
        self.gone = gone
        self.answered = answered and scope is not Scope.SERVER
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        self.body = body or {}

    def problem(self, where: object) -> errors.Problem:
        """Words for a condition."""
        return errors.Problem(self.reason, f"cannot read {where}: {self.cause}")


TIMED_OUT: Final = "VaultSlow"


class _Meaning(NamedTuple):
    reason: str
    cause: str
    scope: Scope = Scope.PATH
    final: bool = False


STATUSES: Final[Mapping[int, _Meaning]] = {
    400: _Meaning("VaultRefused", "Vault refuses the request (400)"),
    401: _Meaning("VaultForbidden", "Vault does not accept the token (401)", final=True),
    403: _Meaning("VaultForbidden", "Vault forbids it (403)", final=True),
    404: _Meaning("MountMissing", "Vault has no such mount (404)"),
    429: _Meaning("VaultBusy", "Vault's rate limit is reached (429)"),
    500: _Meaning("VaultFailing", "Vault failed (500)"),
    501: _Meaning("VaultSealed", "Vault is not initialised (501)", Scope.SERVER),
    502: _Meaning("VaultUnreachable", "Vault's gateway fails (502)", Scope.SERVER),
    503: _Meaning("VaultSealed", "Vault is sealed or in standby (503)", Scope.SERVER),
}
"""By status (https://developer.hashicorp.com/vault/api-docs#http-status-codes)."""

_UNREACHABLE: Final = "VaultUnreachable"
NO_ANSWER: Final[Mapping[type[Exception], _Meaning]] = {
    requests.exceptions.SSLError: _Meaning(
        _UNREACHABLE, "Vault's certificate cannot be verified", Scope.SERVER
    ),
    requests.exceptions.ConnectionError: _Meaning(
        _UNREACHABLE, "Vault cannot be reached", Scope.SERVER
    ),
    requests.exceptions.Timeout: _Meaning(TIMED_OUT, "Vault does not answer in time"),
    Exception: _Meaning(_UNREACHABLE, "Vault gives no answer that can be read"),
}
"""By the class of a failure without an answer, its nearest ancestor counting."""


def of_answer(answer: requests.Response) -> VaultReadError:
    """The failure that an answer with a status of 400 or more means."""
    status, body = answer.status_code, _object(answer)
    cause = f"Vault refuses it with an unexpected status ({status})"
    meaning = STATUSES.get(status, _Meaning("VaultFailing", cause))
    # Where Vault finds a mount and nothing at the path, it says 404 and an empty list.
    gone = status == HTTPStatus.NOT_FOUND and body.get("errors") == []
    if gone:
        meaning = _Meaning("PathMissing", "there is nothing at this path")
    # RFC 9110, 10.2.3; it may be a date as well, which Vault never sends.
    retry_after = answer.headers.get("Retry-After", "")
    is_wait = status == HTTPStatus.TOO_MANY_REQUESTS and retry_after.isdecimal()
    return VaultReadError(
        *meaning[:2],
        scope=meaning.scope,
        final=meaning.final,
        gone=gone,
        retry_after_seconds=float(retry_after) if is_wait else 0.0,
        status=status,
        body=body,
    )


def of_no_answer(error: Exception) -> VaultReadError:
    """The failure that an error of the HTTP library means."""
    meaning = next(NO_ANSWER[kind] for kind in type(error).__mro__ if kind in NO_ANSWER)
    return VaultReadError(*meaning[:2], scope=meaning.scope, answered=False)


def not_vault() -> VaultReadError:
    """The failure of an answer that no Vault gives, as of another web server."""
    return VaultReadError("VaultFailing", "the server does not answer as Vault does")


def of_login(failure: VaultReadError) -> VaultReadError:
    """The same failure, met by a login: unless it is the server's, it concerns the identity."""
    if failure.status in {400, 401, 403, 404}:
        cause = "Vault refuses the login: check its role"
        return VaultReadError("LoginRefused", cause, scope=Scope.IDENTITY, final=True)
    if failure.scope is Scope.PATH:
        failure.scope = Scope.IDENTITY
    return failure


def _object(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
