"""Waits for the work of other threads."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 30.0


def eventually(check: Callable[[], object]) -> None:
    """Wait until it is so; AssertionError where it does not become so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)
