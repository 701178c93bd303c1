"""What can go wrong in the operator, by one question: does a retry help?

    OperatorError
    ├── InvalidPolicy   no: the policy's author must change it; `path` names the field
    ├── Denied          no: an administrator must grant what the message names
    ├── Foreign         no: an object of that name belongs to somebody else
    └── Unavailable     yes: something is away; try again, not before `retry_after_seconds`

What a policy refers to and does not find is no exception but a `Problem`: the rest of the policy
is still carried out, and the condition says it.
"""

from dataclasses import dataclass


class OperatorError(Exception):
    """The root of all errors of this program."""


class InvalidPolicy(OperatorError):  # noqa: N818 - the tree reads as words
    """A policy that cannot be carried out. `path` names the field, `reason` is CamelCase."""

    def __init__(self, path: str, message: str, *, reason: str = "Invalid") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.reason = reason


class Denied(OperatorError):  # noqa: N818 - as above
    """The API server or Vault refuses; the message names the missing permission."""


class Foreign(OperatorError):  # noqa: N818 - as above
    """An object of the wanted name is not ours; the message says whose it is."""


class Unavailable(OperatorError):  # noqa: N818 - as above
    """Something is away. `reason` is a CamelCase word for a condition."""

    def __init__(
        self, message: str, *, reason: str = "Unavailable", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a part of a policy is not as it should be: words for a condition."""

    reason: str
    message: str
