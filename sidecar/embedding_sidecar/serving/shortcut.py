"""uvicorn's HTTP protocol, which asks the application for an answer before it makes a task.

A hit waits for nothing, or for one answer of Redis, and most misses for one call to a provider: a
task, its event and its switches would cost more than the answer. uvicorn makes the task when the
head of a request is there; this makes it when the body is, and not at all where the application
answers without. A head that came before is not parsed again. What has not come whole after
HOLD_SECONDS, or is longer than uvicorn buffers, becomes a task as ever, and has the endpoint's own
time-out.

It builds on names of uvicorn that are not promised (decision 013);
tests/unit/embedding_sidecar/test_shortcut.py holds it to what uvicorn's own protocol answers.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http import httptools_impl

from embedding_sidecar.serving.connections import Connection
from embedding_sidecar.serving.embeddings import ASKED, WRITE, Asked, Reply
from embedding_sidecar.serving.known_heads import Known, KnownHeads, Repeated
from embedding_sidecar.wire.heads import Head

HOLD_SECONDS: Final = 0.05
MAX_LESSONS: Final = 8
"""How many heads one connection teaches: who sends another one each time teaches for nothing."""


class Prompt(Protocol):
    """An application that can answer some requests without waiting."""

    known_heads: KnownHeads

    def head(self, scope: Scope) -> Head | None:
        """What the head of a request says, if it may be answered at once."""
        ...

    def at_once(self, head: Head, body: bytes) -> Reply | Asked | None:
        """The answer to a request that has come whole, or what need not be read again."""
        ...

    def look_up(self, asked: Asked, done: Callable[[Reply | Asked], None]) -> None:
        """Tell `done`, now or soon, the answer, or what need not be found out again."""
        ...

    def begin(self, asked: Asked, done: Callable[[Reply], None]) -> bool:
        """Begin to make the answer, which `done` is told later; False where it needs a task."""
        ...


class Shortcut(Connection):
    """One connection to an application that is a Prompt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._prompt: Prompt = self.app
        self._held: tuple[httptools_impl.RequestResponseCycle, Any] | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._receiving = False
        self._whole: bytes | None = None
        """What comes in just now, if it begins with a request."""
        self._lessons = MAX_LESSONS

    def data_received(self, data: bytes) -> None:
        """Answer at once what is whole and can be; parse it, unless its head is known."""
        if self._is_between_requests:
            if self._is_repeated(data):
                return
            self._whole = data
        self._receiving = True
        super().data_received(data)
        # An answer lets the next request of a pipeline come up, which is held in its turn.
        while self._held is not None and not self._held[0].more_body:
            self._answer_held(*self._held)
        self._receiving, self._whole = False, None
        if self._held is None or self._hold is not None:
            return
        if self.flow.read_paused:
            self._start_held()
        else:
            self._hold = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._start_held)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for an answer any more."""
        self._release()
        super().connection_lost(exc)

    @property
    def _is_between_requests(self) -> bool:
        if self.cycle is None:
            return self.scope is None
        return (
            self.cycle.response_complete
            and not self.cycle.more_body
            and self.cycle.scope is self.scope
        )

    def _is_repeated(self, data: bytes) -> bool:
        """Whether it is a request whose head is known; then it is being answered."""
        repeated = self._prompt.known_heads.find(data) if self._can_write() else None
        if repeated is None:
            return False
        # Line ends before it, if any came.
        self._head_bytes = 0
        result = self._prompt.at_once(repeated.known.head, repeated.body)
        if isinstance(result, Reply):
            self._send(result, is_last=False)
            self.on_response_complete()
        else:
            self._after_at_once(self._cycle_of(repeated), self.app, result)
        return True

    def _cycle_of(self, repeated: Repeated) -> httptools_impl.RequestResponseCycle:
        """What uvicorn makes of a request it has parsed."""
        body = repeated.body
        scope: Any = {
            **repeated.known.scope,
            "client": self.client,
            "headers": [
                *repeated.known.scope["headers"],
                (b"content-length", b"%d" % len(body)),
            ],
        }
        self.scope = scope
        self.cycle = httptools_impl.RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        self.cycle.body += body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        return self.cycle

    def _start_asgi_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        # Who expects 100-continue sends no body before a task has asked for it; and without data
        # coming in, nobody would come back to what is held.
        if app is not self._prompt or cycle.waiting_for_100_continue or not self._receiving:
            self._start_task(cycle, app)
        else:
            self._held = cycle, app

    def _answer_held(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        self._release()
        if self.transport.is_closing():
            return
        result = None
        scope = cast("Scope", cycle.scope)
        head = self._prompt.head(scope) if self._can_write() else None
        if head is not None:
            body = bytes(cycle.body)
            if self._lessons and cycle.keep_alive and self._whole is not None:
                self._lessons -= 1
                self._prompt.known_heads.learn(self._whole, Known(head, scope), body=body)
            result = self._prompt.at_once(head, body)
        self._after_at_once(cycle, app, result)

    def _after_at_once(
        self, cycle: httptools_impl.RequestResponseCycle, app: Any, result: Reply | Asked | None
    ) -> None:
        if isinstance(result, Asked):
            self._answered = cycle
            self._prompt.look_up(result, functools.partial(self._after_wait, cycle, app))
        elif result is None:
            self._start_task(cycle, app)
        else:
            self._write(cycle, result)

    def _after_wait(
        self, cycle: httptools_impl.RequestResponseCycle, app: Any, result: Reply | Asked
    ) -> None:
        """Write the answer, or go on to the next way to one."""
        if cycle.disconnected or self.transport.is_closing():
            return
        if isinstance(result, Reply) and self._can_write():
            self._write(cycle, result)
        elif isinstance(result, Reply) or not self._prompt.begin(
            result, functools.partial(self._after_wait, cycle, app)
        ):
            cast("Scope", cycle.scope)[ASKED] = result
            self._start_task(cycle, app)

    def _start_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
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
        self._send(reply, is_last=not cycle.keep_alive)
        cycle.on_response()

    def _send(self, reply: Reply, *, is_last: bool) -> None:
        end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
        line = httptools_impl.STATUS_LINE[reply.status]
        self.transport.writelines((line, reply.head, end, reply.body))
        if is_last:
            self.transport.close()

    def _start_held(self) -> None:
        """As uvicorn would have from the start."""
        held = self._release()
        if held is not None and not self.transport.is_closing():
            self._start_task(*held)

    def _release(self) -> tuple[httptools_impl.RequestResponseCycle, Any] | None:
        held, self._held = self._held, None
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        return held
