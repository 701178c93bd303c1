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

from embedding_sidecar import errors
from embedding_sidecar.serving.connections import Connection
from embedding_sidecar.serving.embeddings import ASKED, WRITE, Asked, Reply
from embedding_sidecar.serving.known_heads import Known, KnownHeads, Repeated
from embedding_sidecar.turns import Turn
from embedding_sidecar.wire.heads import Head

HOLD_SECONDS: Final = 0.05
MAX_LESSONS: Final = 8
"""How many heads one connection teaches: who sends another one each time teaches for nothing."""


class Prompt(Protocol):
    """An application that can answer some requests without waiting."""

    known_heads: KnownHeads
    turn: Turn

    def head(self, scope: Scope) -> Head | None:
        """What the head of a request says, if it may be answered at once."""
        ...

    def at_once(self, head: Head, body: bytes) -> Reply | Asked | None:
        """The answer to a request that has come whole, or what need not be read again."""
        ...

    def look_up(self, asked: Asked, done: Callable[[Reply | Asked], None]) -> None:
        """Tell `done`, now or soon, the answer, or what need not be found out again."""
        ...


class Shortcut(Connection):
    """One connection to an application that is a Prompt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._cycle: httptools_impl.RequestResponseCycle | None = None
        super().__init__(*arguments, **named)
        self._prompt: Prompt = self.app
        self._held: tuple[httptools_impl.RequestResponseCycle, Any] | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._repeated: Repeated | None = None
        """The request that is being answered, while nobody has asked for uvicorn's object of it."""
        self._unsent: list[bytes] = []
        """Answers that go out when this turn of the loop is over."""
        self._receiving = False
        self._whole: bytes | None = None
        """What comes in just now, if it begins with a request."""
        self._lessons = MAX_LESSONS

    @property
    def cycle(self) -> Any:
        """The last request as uvicorn has it, made when it is asked for: most are not."""
        if self._repeated is not None:
            self._make_cycle(self._repeated)
        return self._cycle

    @cycle.setter
    def cycle(self, made: httptools_impl.RequestResponseCycle | None) -> None:
        self._repeated, self._cycle = None, made

    def data_received(self, data: bytes) -> None:
        """Answer at once what is whole and can be; parse it, unless its head is known."""
        if self._repeated is not None:
            # The parser is not to find it half made.
            self._make_cycle(self._repeated)
        elif self._is_between_requests:
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

    def eof_received(self) -> None:
        """The client sends no more, and gets what it has asked for; uvicorn hangs up then."""
        self._flush()
        super().eof_received()

    def shutdown(self) -> None:
        """The process ends: hang up, or let the request under way be the last one."""
        self._flush()
        super().shutdown()

    def cut(self, error: errors.Refused) -> None:
        """As a Connection's, behind what has been answered."""
        self._flush()
        super().cut(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for an answer any more."""
        self._release()
        super().connection_lost(exc)
        if self._cycle is not None:
            _part(self._cycle)
        if self._answered is not None:
            # uvicorn tells the last request only, and this one may have others behind it.
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._answered = None

    @property
    def _is_between_requests(self) -> bool:
        cycle = self._cycle
        if cycle is None:
            return self.scope is None
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _is_repeated(self, data: bytes) -> bool:
        """Whether it is a request whose head is known; then it is being answered."""
        repeated = self._prompt.known_heads.find(data) if self._can_write() else None
        if repeated is None:
            return False
        # Line ends before it, if any came.
        self._head_bytes = 0
        result = self._prompt.at_once(repeated.known.head, repeated.body)
        self._repeated = repeated
        if isinstance(result, Reply):
            self._write(result)
        elif result is None:
            self._start_task(self._meant(), self.app)
        else:
            self._prompt.look_up(result, self._after_wait)
        return True

    def _meant(self) -> httptools_impl.RequestResponseCycle:
        """The request that is being answered, as uvicorn has it."""
        if self._repeated is not None:
            self._make_cycle(self._repeated)
        assert self._answered is not None  # noqa: S101 - an answer is of a request
        return self._answered

    def _make_cycle(self, repeated: Repeated) -> None:
        """Do what uvicorn does with a request it has parsed."""
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
        self.cycle = cycle = httptools_impl.RequestResponseCycle(
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
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._answered = cycle

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
        scope: Any = cycle.scope
        head = self._prompt.head(scope) if self._can_write() else None
        if head is not None:
            body = bytes(cycle.body)
            if self._lessons and cycle.keep_alive and self._whole is not None:
                self._lessons -= 1
                self._prompt.known_heads.learn(self._whole, Known(head, scope), body=body)
            result = self._prompt.at_once(head, body)
        if isinstance(result, Asked):
            self._answered = cycle
            self._prompt.look_up(result, self._after_wait)
        elif result is None:
            self._start_task(cycle, app)
        else:
            self._answered = cycle
            self._write(result)

    def _after_wait(self, result: Reply | Asked) -> None:
        """Write the answer, or go on to the next way to one."""
        if self.transport.is_closing():
            return
        if isinstance(result, Reply) and self._can_write():
            self._write(result)
        else:
            cycle = self._meant()
            cast("Scope", cycle.scope)[ASKED] = result
            self._start_task(cycle, self._prompt)

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
        self._complete(cycle, reply)
        return True

    def _write(self, reply: Reply) -> None:
        """Answer what is being answered."""
        if self._repeated is None:
            self._complete(self._meant(), reply)
        else:
            self._repeated = None
            self._send(reply, is_last=False)
            self.on_response_complete()

    def _complete(self, cycle: httptools_impl.RequestResponseCycle, reply: Reply) -> None:
        cycle.response_started = cycle.response_complete = True
        self._send(reply, is_last=not cycle.keep_alive)
        cycle.on_response()
        _part(cycle)

    def _send(self, reply: Reply, *, is_last: bool) -> None:
        # One at a time: a client that asks for many in one go and reads none is to be noticed.
        if self._unsent:
            self._flush()
        end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
        self._unsent += (httptools_impl.STATUS_LINE[reply.status], reply.head, end, reply.body)
        if is_last:
            self._flush()
            self.transport.close()
        else:
            self._prompt.turn.send(self._flush)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self.transport.is_closing():
            self.transport.writelines(unsent)

    def _refuse_now(self, error: errors.Refused) -> None:
        self._flush()
        super()._refuse_now(error)

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


def _part(cycle: httptools_impl.RequestResponseCycle) -> None:
    # As uvicorn does at the end of a task: it and its connection would hold each other, and a body.
    cycle.on_response = _nothing


def _nothing() -> None:
    """What is left to do after an answer."""
