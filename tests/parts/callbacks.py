"""Callbacks as coroutines."""

import asyncio
from collections.abc import Callable
from typing import Any

from embedding_sidecar.quota.leases import Reservation


async def come(start: Callable[..., Callable[[], object] | None], *asked: Any, **more: Any) -> Any:
    """What a call comes to that is started so, and tells `done`; cancelled, it cancels the call."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(said: Any) -> None:
        if not told.done():
            told.set_result(said)

    cancel = start(*asked, **more, done=done)
    try:
        said = await told
    finally:
        if cancel is not None:
            cancel()
    if isinstance(said, BaseException):
        raise said
    return said


async def draw(quota: Any, **wanted: Any) -> Reservation:
    """A reservation, or why there is none; what is given to one who has left is given back."""
    given: list[Reservation] = []
    has_left = False

    def give_back() -> None:
        while has_left and given:
            quota.settle(given.pop(), billed=False, tokens=0)

    def start(*, done: Callable[[Any], None]) -> Callable[[], object] | None:
        def drawn(outcome: Any) -> None:
            if isinstance(outcome, Reservation):
                given.append(outcome)
            give_back()
            done(outcome)

        cancel: Callable[[], object] | None = quota.draw(**wanted, done=drawn)
        return cancel

    try:
        made: Reservation = await come(start)
    except asyncio.CancelledError:
        has_left = True
        give_back()
        raise
    return made
