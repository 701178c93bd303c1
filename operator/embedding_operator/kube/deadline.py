"""The time that is left for what a thread does, for every call that it makes on the way."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from embedding_operator import errors

_ENDS_AT: Final[ContextVar[float | None]] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give all that is done inside so many seconds in sum."""
    before = _ENDS_AT.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS_AT.reset(before)


def bounded(seconds: float) -> float:
    """A time-out of so many seconds, or of what is left where that is less.

    Raises:
        errors.Unavailable: nothing is left.
    """
    ends_at = _ENDS_AT.get()
    if ends_at is None:
        return seconds
    left_seconds = ends_at - time.monotonic()
    if left_seconds <= 0:
        raise errors.Unavailable("its deadline has passed", reason="DeadlineExceeded")
    return min(seconds, left_seconds)
