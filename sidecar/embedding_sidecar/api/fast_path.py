"""The API's connections, which ask the application for a response before they make a task.

A hit waits for nothing, or for one answer of Redis: a task and its switches would cost more than
the response. So the body is awaited first, a task is begun only if the application returns no
response, and a known head is not parsed again (decision 013). A request that is not complete after
HOLD_SECONDS, or is longer than the buffer, becomes a task, and has the endpoint's time-out.
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
"""Heads learned from one connection: if each of its heads is new, none is worth learning."""


class FastPath(HttpProtocol):
    """One connection to the endpoint for embeddings and to the router behind it."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._endpoint: Embeddings = listener.application
        self._held: Exchange | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._ends_with_caller: asyncio.Task[None] | None = None
        self._receiving = False
        self._whole: bytes | None = None
        """The data being received, if it begins with a request."""
        self._lessons = MAX_LESSONS

    def data_received(self, data: bytes) -> None:
        """Answer complete requests at once if possible; one with a known head is not parsed."""
        if self.is_between_requests:
            if self._is_known(data):
                return
            self._whole = data
        self._receiving = True
        super().data_received(data)
        # After an answer the next request of a pipeline is begun, and is held in its turn.
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
        """The client is gone: cancel a task that ends with its caller."""
        self._release()
        super().connection_lost(exc)
        if self._ends_with_caller is not None:
            self._ends_with_caller.cancel()

    def respond(self, exchange: Exchange) -> None:
        """Hold a request until its body is complete."""
        self.answering = exchange
        # With `100-continue` the body comes only after a task has asked for it; and unless data is
        # being received, nothing would answer a held request.
        if exchange.expects_continue or not self._receiving:
            self.respond_in_task(exchange, self._endpoint.respond)
        else:
            self._held = exchange

    def _is_known(self, data: bytes) -> bool:
        """True if the data is a request with a known head; then it is being answered."""
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
        """Respond, or begin a task that does."""
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
