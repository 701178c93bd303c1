"""Both event loops: asyncio's own, which shows its timers, and the sidecar's, which is uvloop."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
_TURNS = 5
"""Turns of a loop after which what was told to close has closed."""


def run(name: str, coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns; afterwards no task, timer or socket of it is left."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        return runner.run(_checked(coroutine))


def timers() -> list[asyncio.TimerHandle]:
    """Those of the running loop that are still to come; none that uvloop would show."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", ())
    return [it for it in scheduled if not it.cancelled()]


async def _checked(coroutine: Coroutine[Any, Any, T]) -> T:
    before = _sockets()
    found = await coroutine
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert timers() == []
    assert _sockets() == before
    return found


def _sockets() -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        # That of the folder itself is closed by now.
        if descriptor.is_symlink():
            found += str(descriptor.readlink()).startswith("socket:")
    return found
