"""A lock that threads get in the order in which they asked, for reading large answers."""

import threading
from collections import deque
from types import TracebackType
from typing import Self


class FifoLock:
    """A lock that goes to the thread that waited longest.

    With a `threading.Lock` a reader of many pages, which asks again at once, would get all of them
    before another reader's first.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_held = False

    def acquire(self) -> None:
        """Wait for the lock, and take it."""
        with self._mutex:
            if not self._is_held:
                self._is_held = True
                return
            given = threading.Lock()
            given.acquire()
            self._waiting.append(given)
        given.acquire()

    def release(self) -> None:
        """Pass the lock on."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False

    def locked(self) -> bool:
        """True if a thread holds it."""
        return self._is_held

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
