"""What stands in the way of reading Vault, and how far it reaches.

A server that is sealed is so for every path: once one look has found that, the others need not
ask. A login that is refused is so for every path of its identity, and all else for one path.
"""

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

import hvac.exceptions
import requests

from embedding_operator import errors


class Scope(enum.Enum):
    """Whose reads a failure stops."""

    SERVER = "server"
    IDENTITY = "identity"
    PATH = "path"


class Unreadable(Exception):  # noqa: N818 - says what it is
    """A path cannot be read now.

    `message` holds {where} for the path. `final`: Vault has answered, and the values are not to be
    had (any more), so what was known of them is forgotten. `gone`: there is nothing, surely.
    `answered`: it was Vault that said so, which therefore works. `retry_after_seconds`: for so long
    it wants not to be asked.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        scope: Scope = Scope.PATH,
        final: bool = False,
        gone: bool = False,
        answered: bool = True,
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.scope = scope
        self.final = final or gone
        self.gone = gone
        self.answered = answered and scope is not Scope.SERVER
        self.retry_after_seconds = retry_after_seconds

    def problem(self, where: object) -> errors.Problem:
        """Words for a condition."""
        return errors.Problem(self.reason, self.message.replace("{where}", str(where)))


class BusyError(hvac.exceptions.RateLimitExceeded):
    """A rate limit, and when Vault wants to be asked again (RFC 9110, 10.2.3); 0 for any time."""

    def __init__(self, error: hvac.exceptions.RateLimitExceeded, retry_after: str) -> None:
        super().__init__(errors=error.errors, method=error.method, url=error.url)
        # It may be a date as well, which Vault never sends.
        self.retry_after_seconds = float(retry_after) if retry_after.isdecimal() else 0.0


SILENT: Final = "VaultSlow"


class _Meaning(NamedTuple):
    reason: str
    message: str
    scope: Scope = Scope.PATH
    final: bool = False


MEANINGS: Final[Mapping[type[Exception], _Meaning]] = {
    hvac.exceptions.InvalidPath: _Meaning("MountMissing", "Vault has no mount for {where}"),
    hvac.exceptions.Forbidden: _Meaning(
        "VaultForbidden", "Vault's policy forbids reading {where}", final=True
    ),
    hvac.exceptions.Unauthorized: _Meaning(
        "VaultForbidden", "Vault does not know who asks for {where}", final=True
    ),
    hvac.exceptions.InvalidRequest: _Meaning(
        "VaultRefused", "Vault refused the request for {where}"
    ),
    hvac.exceptions.RateLimitExceeded: _Meaning(
        "VaultBusy", "Vault's rate limit is reached (429) for {where}"
    ),
    hvac.exceptions.InternalServerError: _Meaning("VaultFailing", "Vault failed (500) on {where}"),
    hvac.exceptions.VaultNotInitialized: _Meaning(
        "VaultSealed", "Vault is not initialised (501); {where}", Scope.SERVER
    ),
    hvac.exceptions.VaultDown: _Meaning(
        "VaultSealed", "Vault is sealed or in standby (503); {where}", Scope.SERVER
    ),
    hvac.exceptions.BadGateway: _Meaning(
        "VaultUnreachable", "Vault's gateway fails (502) for {where}", Scope.SERVER
    ),
    hvac.exceptions.UnexpectedError: _Meaning(
        "VaultFailing", "Vault answered {where} unexpectedly"
    ),
    hvac.exceptions.UnsupportedOperation: _Meaning("VaultRefused", "Vault cannot do that: {where}"),
    hvac.exceptions.PreconditionFailed: _Meaning(
        "VaultFailing", "Vault is not consistent for {where}"
    ),
    hvac.exceptions.ParamValidationError: _Meaning(
        "VaultRefused", "the reference {where} is malformed"
    ),
    hvac.exceptions.VaultError: _Meaning("VaultFailing", "Vault failed on {where}"),
    requests.exceptions.ConnectionError: _Meaning(
        "VaultUnreachable", "Vault cannot be reached; {where}", Scope.SERVER
    ),
    requests.exceptions.Timeout: _Meaning(SILENT, "Vault does not answer in time; {where}"),
    requests.exceptions.RequestException: _Meaning(
        "VaultUnreachable", "Vault gives no answer that can be read; {where}"
    ),
}
"""By the class of a failure of the client library, its nearest ancestor counting."""

LOGIN_REFUSED: Final = (
    hvac.exceptions.InvalidRequest,
    hvac.exceptions.Unauthorized,
    hvac.exceptions.Forbidden,
    hvac.exceptions.InvalidPath,
)

FOREIGN: Final = (hvac.exceptions.VaultError, requests.exceptions.RequestException)
"""All that the client library raises."""


def of_reading(error: Exception) -> Unreadable:
    """What a failure to read means."""
    if isinstance(error, hvac.exceptions.InvalidPath) and error.errors == []:
        # Where Vault finds a mount and nothing at the path, it says 404 and an empty list.
        return Unreadable("PathMissing", "there is nothing at {where}", gone=True)
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            meaning = MEANINGS[kind]
            return Unreadable(
                meaning.reason,
                meaning.message,
                scope=meaning.scope,
                final=meaning.final,
                answered=isinstance(error, hvac.exceptions.VaultError),
                retry_after_seconds=getattr(error, "retry_after_seconds", 0.0),
            )
    raise error


def of_login(error: Exception) -> Unreadable:
    """What a failure to sign in means; whatever is not the server's concerns the identity."""
    if isinstance(error, LOGIN_REFUSED):
        message = "Vault refuses the login with which {where} is read: look at its role"
        return Unreadable("LoginRefused", message, scope=Scope.IDENTITY, final=True)
    found = of_reading(error)
    if found.scope is Scope.PATH:
        return Unreadable(
            found.reason,
            found.message,
            scope=Scope.IDENTITY,
            answered=found.answered,
            retry_after_seconds=found.retry_after_seconds,
        )
    return found
