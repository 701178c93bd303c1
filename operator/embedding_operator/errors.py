"""The operator's errors, by one question: does a retry help?

    OperatorError
    ├── InvalidPolicy   no: the policy's author must change it; `path` names the field
    ├── Denied          no: an administrator must grant the permission in the message
    └── Unavailable     yes: something does not answer; not before `retry_after_seconds`
        ├── Conflict    yes, once the object is read anew: another writer was faster
        └── NotHolder   yes, in the replica that holds the Lease: this one writes nothing

A missing reference of a policy is not an exception but a `Problem`: the rest of the policy is still
applied, and a condition reports it.
"""

from dataclasses import dataclass


class OperatorError(Exception):
    """The root of all errors of this program."""


class InvalidPolicy(OperatorError):  # noqa: N818 - the tree reads as words
    """A policy is not valid; `path` names the field, `reason` is CamelCase."""

    def __init__(self, path: str, message: str, *, reason: str = "Invalid") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.reason = reason


class Denied(OperatorError):  # noqa: N818 - as above
    """The API server or Vault refuses; the message names the missing permission."""


class Unavailable(OperatorError):  # noqa: N818 - as above
    """Something does not answer; `reason` is a CamelCase word for a condition."""

    def __init__(
        self, message: str, *, reason: str = "Unavailable", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Conflict(Unavailable):
    """An object exists already, has changed since it was read, or is another one by now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="Conflict")


class NotHolder(Unavailable):
    """A write was not sent, as this replica does not hold the Lease."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="NotHolder")


@dataclass(frozen=True, slots=True)
class Problem:
    """The fault of a part of a policy, for a condition."""

    reason: str
    message: str
