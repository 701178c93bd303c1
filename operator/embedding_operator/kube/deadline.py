"""A deadline for all calls of a thread to the API server."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from embedding_operator import errors

_ENDS_AT: Final[ContextVar[float | None]] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound all calls inside to so many seconds in sum."""
    before = _ENDS_AT.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS_AT.reset(before)


def bounded(seconds: float) -> float:
    """The smaller of a time-out and the time left.

    Raises:
        errors.Unavailable: no time is left.
    """
    ends_at = _ENDS_AT.get()
    if ends_at is None:
        return seconds
    left_seconds = ends_at - time.monotonic()
    if left_seconds <= 0:
        raise errors.Unavailable("the deadline has passed", reason="DeadlineExceeded")
    return min(seconds, left_seconds)
