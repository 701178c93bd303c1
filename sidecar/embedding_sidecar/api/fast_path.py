"""The API's connections, which ask the application for a response before they make a task.

A hit waits for nothing, or for one answer of Redis: a task and its switches would cost more than
the response. So the body is waited for first, a task is begun only where the application responds
with none, and a head that came before is not parsed again (decision 013). What has not come whole
after HOLD_SECONDS, or is longer than is buffered, becomes a task, and has the endpoint's time-out.
"""

import asyncio
import functools
from typing import Final

from embedding_http.exchange import Exchange
from embedding_http.flow import Reply
from embedding_http.protocol import HttpProtocol, Listener
from embedding_sidecar.api.embeddings import Asked, Embeddings
from embedding_sidecar.api.head_cache import Known

HOLD_SECONDS: Final = 0.05
MAX_LESSONS: Final = 8
"""How many heads one connection teaches: one that sends another each time teaches for nothing."""


class FastPath(HttpProtocol):
    """One connection to the endpoint for embeddings and what is behind it."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._endpoint: Embeddings = listener.application
        self._held: Exchange | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._ends_with_caller: asyncio.Task[None] | None = None
        self._receiving = False
        self._whole: bytes | None = None
        """What comes in just now, if it begins with a request."""
        self._lessons = MAX_LESSONS

    def data_received(self, data: bytes) -> None:
        """Answer at once what is whole and can be; parse it, unless its head is known."""
        if self.is_between_requests:
            if self._is_known(data):
                return
            self._whole = data
        self._receiving = True
        super().data_received(data)
        # An answer lets the next request of a pipeline come up, which is held in its turn.
        while self._held is not None and not self._held.more_body:
            self._answer_held()
        self._receiving, self._whole = False, None
        if self._held is None or self._hold is not None:
            return
        if self.flow.read_paused:
            self._begin_held()
        else:
            self._hold = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._begin_held)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for a response any more."""
        self._release()
        super().connection_lost(exc)
        if self._ends_with_caller is not None:
            self._ends_with_caller.cancel()

    def respond(self, exchange: Exchange) -> None:
        """Hold a request until its body is there."""
        self.answering = exchange
        # One that expects 100-continue sends no body before a task has asked for it; and without
        # data coming in, nothing would come back to what is held.
        if exchange.expects_continue or not self._receiving:
            self.respond_in_task(exchange, self._endpoint.respond)
        else:
            self._held = exchange

    def _is_known(self, data: bytes) -> bool:
        """Whether it is a request whose head is known; then it is being answered."""
        # The response to a client that does not read waits in a task.
        repeated = None if self.flow.write_paused else self._endpoint.known_heads.find(data)
        if repeated is None:
            return False
        known, body = repeated
        result = self._endpoint.at_once(known.head, body)
        if isinstance(result, Reply):
            self.flow.reply(result, is_last=self.listener.is_ending)
            self.responded()
        else:
            self.answering = exchange = Exchange(
                self.flow, known.scope, self.responded, keep_alive=not self.listener.is_ending
            )
            exchange.more_body = False
            self._endpoint.look_up(result, self._looked_up)
        return True

    def _answer_held(self) -> None:
        exchange = self._release()
        if exchange is None or self.flow.is_closing:
            return
        head = None if self.flow.write_paused else self._endpoint.head(exchange.scope)
        if head is None:
            self.respond_in_task(exchange, self._endpoint.respond)
            return
        body = bytes(exchange.body)
        if self._lessons and exchange.keep_alive and self._whole is not None:
            self._lessons -= 1
            self._endpoint.known_heads.learn(self._whole, Known(head, exchange.scope), body=body)
        result = self._endpoint.at_once(head, body)
        if isinstance(result, Reply):
            exchange.reply(result)
        else:
            self._endpoint.look_up(result, self._looked_up)

    def _looked_up(self, result: Reply | Asked) -> None:
        """Respond, or have a task do so."""
        exchange = self.answering
        if exchange is None or self.flow.is_closing:
            if isinstance(result, Asked):
                self._endpoint.caller_left(result)
            return
        if isinstance(result, Reply):
            exchange.reply(result)
            return
        task = self.respond_in_task(
            exchange, functools.partial(self._endpoint.respond, asked=result)
        )
        self._ends_with_caller = task if result.ends_with_caller else None

    def _begin_held(self) -> None:
        exchange = self._release()
        if exchange is not None and not self.flow.is_closing:
            self.respond_in_task(exchange, self._endpoint.respond)

    def _release(self) -> Exchange | None:
        held, self._held = self._held, None
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        return held
