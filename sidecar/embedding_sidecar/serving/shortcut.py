"""uvicorn's HTTP protocol, which asks the application for an answer before it makes a task.

A hit in memory waits for nothing, so a task, its event and its switches would cost more than the
answer. uvicorn makes the task when the head of a request is there; this makes it when the body is,
and not at all where the application answers at once. What has not come whole after HOLD_SECONDS,
or is longer than uvicorn buffers, becomes a task as ever, and has the endpoint's own time-out.

It builds on names of uvicorn that are not promised (decision 013);
tests/unit/embedding_sidecar/test_shortcut.py holds it to what uvicorn's own protocol answers.
"""

import asyncio
import functools
from typing import Any, Final, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http import httptools_impl

from embedding_sidecar.serving.connections import Connection
from embedding_sidecar.serving.embeddings import WRITE, Reply

HOLD_SECONDS: Final = 0.05


class Prompt(Protocol):
    """An application that can answer some requests without waiting."""

    def at_once(self, scope: Scope, body: bytes) -> Reply | None:
        """The answer to a request that has come whole; None where it must be a task."""
        ...


class Shortcut(Connection):
    """One connection to an application that is a Prompt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._prompt: Prompt = self.app
        self._held: tuple[httptools_impl.RequestResponseCycle, Any] | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._receiving = False

    def data_received(self, data: bytes) -> None:
        """Parse, and answer at once what is whole and can be."""
        self._receiving = True
        super().data_received(data)
        # An answer lets the next request of a pipeline come up, which is held in its turn.
        while self._held is not None and not self._held[0].more_body:
            self._answer(*self._held)
        self._receiving = False
        if self._held is None or self._hold is not None:
            return
        if self.flow.read_paused:
            self._go_on()
        else:
            self._hold = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for an answer any more."""
        self._release()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        # Who expects 100-continue sends no body before a task has asked for it; and without data
        # coming in, nobody would come back to what is held.
        if app is not self._prompt or cycle.waiting_for_100_continue or not self._receiving:
            self._begin(cycle, app)
            return
        # The answer before this one, in the same data, has armed it.
        self._unset_keepalive_if_required()
        self._held = cycle, app

    def _answer(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        self._release()
        if self.transport.is_closing():
            return
        reply = None
        if self._can_write():
            reply = self._prompt.at_once(cast("Scope", cycle.scope), bytes(cycle.body))
        if reply is None:
            self._begin(cycle, app)
            return
        self._write(cycle, reply)

    def _begin(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        if app is self._prompt:
            cast("Scope", cycle.scope)[WRITE] = functools.partial(self._write_if_possible, cycle)
        super()._start_asgi_task(cycle, app)

    def _can_write(self) -> bool:
        # A caller that does not read what it is sent is waited for in a task; headers of the
        # server's own, such as one that ends the connection, are uvicorn's to heed.
        return not self.flow.write_paused and not self.server_state.default_headers

    def _write_if_possible(self, cycle: httptools_impl.RequestResponseCycle, reply: Reply) -> bool:
        if cycle.disconnected or not self._can_write():
            return False
        self._write(cycle, reply)
        return True

    def _write(self, cycle: httptools_impl.RequestResponseCycle, reply: Reply) -> None:
        cycle.response_started = cycle.response_complete = True
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        line = httptools_impl.STATUS_LINE[reply.status]
        self.transport.writelines((line, reply.head, end, reply.body))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _go_on(self) -> None:
        """As uvicorn would have from the start."""
        held = self._release()
        if held is not None and not self.transport.is_closing():
            self._begin(*held)

    def _release(self) -> tuple[httptools_impl.RequestResponseCycle, Any] | None:
        held, self._held = self._held, None
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        return held
