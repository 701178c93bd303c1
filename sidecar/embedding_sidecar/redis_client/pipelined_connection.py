"""One connection to one Redis server, with several commands in flight.

redis-py makes the connection, with TLS, password, database and Sentinel as the URL says. From then
on commands go straight to its transport, and our own asyncio protocol gets the answers, which come
in the order of the commands. The connection is dropped and made anew where answers break that order
or come unasked (decision 016), and where one is longer than an answer to its command can be
(decision 022).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as NoConnection

Told = Callable[[Sequence[Any] | Exception], None]
"""Called once, never synchronously, with one answer for each command, in order (a refusal is a
hiredis.ReplyError), or with the reason why none will come."""

pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command
"""A command as bytes. The type that hiredis states says that a command is one word."""
_LOOKS: Final = 2
"""Checks within a socket's time-out that the server answers. The clock alone does not do: an event
loop that stood still finds both the time up and the answer there."""
_NOT_YET: Final = object()
_TOO_LONG: Final = NoConnection("an answer longer than what was asked for")
_OF_A_REPLICA: Final = ("READONLY ", "MASTERDOWN ")
"""Refusals of a server that is no longer the master; a new connection finds the one that is."""


@dataclass(slots=True, eq=False)
class _Question:
    """Commands, and the answers that have come."""

    commands: Sequence[bytes]
    told: Told
    most_bytes: int
    count: int
    answers: list[Any]


class PipelinedConnection:
    """A connection that is made when it is first needed, and again after it was lost."""

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call] # upstream's
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[_Question] = []
        self._session: _Session | None = None

    def ask(self, commands: Sequence[bytes], told: Told, *, most_bytes: int) -> None:
        """Send these commands, packed, at once or as soon as there is a connection.

        Where all answers together are longer than `most_bytes`, the connection is dropped.
        """
        question = _Question(commands, told, most_bytes, len(commands), [])
        if self._session is not None:
            self._session.send(question)
            return
        self._waiting.append(question)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def reset(self) -> Exception:
        """Drop the connection, as an answer did not fit its command; the reason, as an error."""
        reason = NoConnection("the answer does not belong to the command")
        if self._session is not None:
            self._session.drop(reason)
        return reason

    async def close(self) -> None:
        """Drop the connection, and notify the callers that wait for it."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._session is not None:
            session = self._session
            session.drop(NoConnection("closed"))
            await session.gone
        await self._connection.disconnect(nowait=True)

    async def _connect(self) -> None:
        failure: Exception = NoConnection("closed")
        try:
            # redis-py has not noticed that the connection before was lost.
            await self._connection.disconnect(nowait=True)
            await self._connection.connect()
            if await self._connection.can_read():
                failure = NoConnection("the server sent data unasked")
            else:
                self._session = _Session(self._connection, lost=self._lost)
        except Exception as error:  # noqa: BLE001 - redis-py stumbles over what is no Redis
            failure = error
        finally:
            self._connecting = None
            waiting, self._waiting = self._waiting, []
            for question in waiting:
                if self._session is None:
                    question.told(failure)
                else:
                    self._session.send(question)

    def _lost(self) -> None:
        self._session = None


class _Session(asyncio.Protocol):
    """An open connection of redis_url, whose transport this protocol has taken over."""

    def __init__(self, connection: Any, *, lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._owed: deque[_Question] = deque()
        self._came_bytes = 0
        """Bytes since the last commands were answered."""
        self._is_over = False
        self._look_seconds = connection.socket_timeout / _LOOKS
        self._watch: asyncio.TimerHandle | None = None
        self._answers = self._answers_seen = self._looks = 0
        self._transport: asyncio.Transport = connection.transport
        self._transport.set_protocol(self)
        self.gone: asyncio.Future[None] = self._loop.create_future()

    def send(self, question: _Question) -> None:
        """Send its commands; their answers come after all outstanding ones."""
        self._owed.append(question)
        self._transport.writelines(question.commands)
        question.commands = ()
        if self._watch is None:
            self._watch = self._loop.call_later(self._look_seconds, self._look)

    def drop(self, reason: Exception) -> None:
        """End the connection; no outstanding answer will come."""
        if self._is_over:
            return
        self._is_over = True
        if self._watch is not None:
            self._watch.cancel()
        # Closing would wait until all is sent, and so for ever.
        self._transport.abort()
        self._lost()
        while self._owed:
            self._owed.popleft().told(reason)

    def data_received(self, data: bytes) -> None:
        self._came_bytes += len(data)
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOT_YET and not self._is_over:
                self._take(answer)
        except (hiredis.HiredisError, MemoryError) as error:
            # So many elements may be announced that no list can be made for them.
            self.drop(error if isinstance(error, hiredis.HiredisError) else _TOO_LONG)
            return
        if not self._owed:
            if self._reader.has_data():
                self.drop(NoConnection("the server sent data unasked"))
        elif self._came_bytes > self._owed[0].most_bytes:
            self.drop(_TOO_LONG)

    def connection_lost(self, reason: Exception | None) -> None:
        self.drop(reason or NoConnection("closed by the server"))
        self.gone.set_result(None)

    def _take(self, answer: Any) -> None:
        if not self._owed or isinstance(answer, hiredis.PushNotification):
            self.drop(NoConnection("the server sent data unasked"))
            return
        self._answers += 1
        question = self._owed[0]
        question.answers.append(answer)
        if len(question.answers) == question.count:
            self._came_bytes = 0
            self._owed.popleft()
            question.told(question.answers)
        if isinstance(answer, hiredis.ReplyError) and str(answer).startswith(_OF_A_REPLICA):
            self.drop(NoConnection("the server is no master any more"))

    def _look(self) -> None:
        """Drop the connection if no outstanding answer has come for the whole time-out."""
        self._watch = None
        self._looks = self._looks + 1 if self._answers == self._answers_seen else 0
        self._answers_seen = self._answers
        if self._looks > _LOOKS:
            self.drop(NoConnection("no answer in time"))
        elif self._owed:
            self._watch = self._loop.call_later(self._look_seconds, self._look)
        else:
            self._looks = 0
