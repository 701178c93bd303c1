"""An event loop whose clock advances by itself when nothing is left to run: no test sleeps."""

import asyncio
import selectors
from typing import Any


class _Selector(selectors.SelectSelector):
    """Waits for nothing: the time that would be waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits, and for nothing that can happen")
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """`run_until_complete` takes as long as its work, whatever `time` says then."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def _make_self_pipe(self) -> None:
        """No thread and no signal wakes this loop, so that it holds nothing that must be closed."""

    def __del__(self) -> None:
        """As it holds nothing, it need not be closed."""

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, with all that happens in them."""
        self.run_until_complete(asyncio.sleep(seconds))
