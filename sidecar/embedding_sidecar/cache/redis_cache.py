"""The shared layer of the cache in Redis: one round trip to read, one to write, 50 ms to read.

Reads of one iteration of the event loop share one command, which has each key once. No request
waits for a write, so writes are gathered a little longer; those that a read needs are sent first.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import redis.asyncio

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry, redis_nodes
from embedding_sidecar.cache.redis_generations import RedisGenerations
from embedding_sidecar.redis_client import redis_refusals
from embedding_sidecar.redis_client.outstanding_commands import LATE, OutstandingCommands

BUDGET_SECONDS: Final = 0.05
MANAGEMENT_BUDGET_SECONDS: Final = 1.0
"""For operations that no request for vectors waits for: writes, and generations."""
MAX_WRITING_BYTES: Final = 16 * 2**20
"""Default bound of the values that Redis has not acknowledged yet; others are dropped. A batch of
2048 texts in 1536 dimensions is 12 MB; a larger one is taken if it is alone."""
GATHER_SECONDS: Final = 0.005
"""Values are gathered for this time before they are written: other pods find them that much later,
and a killed sidecar loses that much. A round trip for each costs as much as half a look-up."""
_LAST_ITERATIONS: Final = 4
"""Iterations of the event loop after the time is up: a loop that was blocked takes one to read the
answers, one to parse them and one to hand them over."""
MAX_READING_BYTES: Final = 96 * 2**20
"""Bound of one answer: the vectors of all large requests that are admitted at once, by the chart's
limit, have no more."""
_KEYS: Final = f"{cache_entry.PREFIX}*"
_TOO_LONG: Final = errors.StoreAway("an entry is too long to be kept")
_TOO_MUCH: Final = errors.StoreAway("Redis has not acknowledged what it has been sent")

T = TypeVar("T")
Fetched = Callable[[list[bytes | None] | errors.StoreAway], None]


@dataclass(slots=True, eq=False)
class _Batch(ABC):
    """The commands of one iteration of the event loop, and the callbacks that wait for them.

    `failure` is None once all are carried out.
    """

    failure: errors.StoreAway | None = LATE

    @abstractmethod
    def end(self) -> None:
        """Call each waiting callback once, with the results so far."""

    def time_is_up(self, iterations_left: int) -> None:
        """End the batch, after the iterations that are left."""
        if iterations_left:
            asyncio.get_running_loop().call_soon(self.time_is_up, iterations_left - 1)
        else:
            self.end()


@dataclass(slots=True, eq=False)
class _Reads(_Batch):
    """Keys, whose values come one after the other from the nodes of a Cluster."""

    asked: dict[str, None] = field(default_factory=dict)
    answers: dict[str, object] = field(default_factory=dict)
    waiting: list[tuple[Sequence[str], Fetched]] = field(default_factory=list)

    def end(self) -> None:
        waiting, self.waiting = self.waiting, []
        answers = self.answers
        for keys, done in waiting:
            if self.failure is None or any(key in answers for key in keys):
                values = [answers.get(key) for key in keys]
                _tell(done, [it if isinstance(it, bytes) else None for it in values])
            else:
                _tell(done, self.failure)


@dataclass(slots=True, eq=False)
class _Writes(_Batch):
    """Values, each for so many milliseconds."""

    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    size_bytes: int = 0
    waiting: list[redis_nodes.Over] = field(default_factory=list)

    def end(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            _tell(done, self.failure)


class RedisCache:
    """Entries, and the `generations` of one scope, which its pods share."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        scope: str,
        budget_seconds: float = BUDGET_SECONDS,
        management_budget_seconds: float = MANAGEMENT_BUDGET_SECONDS,
        max_writing_bytes: int = MAX_WRITING_BYTES,
        max_reading_bytes: int = MAX_READING_BYTES,
    ) -> None:
        self._client = client
        self._nodes = redis_nodes.of(client, most_bytes=max_reading_bytes)
        self._budget_seconds = budget_seconds
        self._management_budget_seconds = management_budget_seconds
        self._max_writing_bytes = max_writing_bytes
        self._outstanding = OutstandingCommands()
        self.generations = RedisGenerations(
            client,
            scope=scope,
            outstanding=self._outstanding,
            budget_seconds=management_budget_seconds,
        )
        self._reads: _Reads | None = None
        self._writes: _Writes | None = None
        self._gathering: asyncio.TimerHandle | None = None

    def fetch(self, keys: Sequence[str], done: Fetched) -> None:
        """Call `done` with the values of these keys, None for each that is missing.

        A key whose node is away is missing. Where no key was answered, `done` gets the reason.
        """
        gathered = self._writes
        if gathered is not None and any(key in gathered.values for key in keys):
            self._send_writes()
        batch = self._reads
        if batch is None:
            batch = self._reads = _Reads()
            asyncio.get_running_loop().call_soon(self._send_reads)
        for key in keys:
            batch.asked[key] = None
        batch.waiting.append((keys, done))

    def keep(
        self, values: Mapping[str, bytes], *, ttl_seconds: int, done: redis_nodes.Over
    ) -> None:
        """Set these values; `done` gets None then, or the error.

        A refusal is errors.StoreRefuses. Values that are not acknowledged in time may still be set.
        """
        size_bytes = sum(map(len, values.values()))
        if size_bytes > redis_nodes.MAX_VALUE_BYTES < max(map(len, values.values())):
            done(_TOO_LONG)
            return
        under_way = [it.size_bytes for it in self._outstanding.owed if isinstance(it, _Writes)]
        if self._writes is not None:
            under_way.append(self._writes.size_bytes)
        if under_way and sum(under_way) + size_bytes > self._max_writing_bytes:
            done(_TOO_MUCH)
            return
        batch = self._writes
        if batch is None:
            batch = self._writes = _Writes()
            self._gathering = asyncio.get_running_loop().call_later(
                GATHER_SECONDS, self._send_writes
            )
        batch.size_bytes += size_bytes
        for key, value in values.items():
            batch.values[key] = value, ttl_seconds * 1000
        batch.waiting.append(done)
        if len(batch.values) >= redis_nodes.FEW:
            self._send_writes()

    async def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys. Raises errors.StoreAway."""
        if self._writes is not None:
            for key in keys:
                self._writes.values.pop(key, None)
        seconds = self._management_budget_seconds
        await self._outstanding.within(seconds, lambda: self._nodes.remove(keys), pattern=_KEYS)

    async def close(self) -> None:
        """Write the gathered values, within their time; end the rest, and the connections."""
        self._send_reads()
        self._send_writes()
        await self._written()
        await self._outstanding.end()
        await self._nodes.close()
        await self._client.aclose()

    async def _written(self) -> None:
        """Wait for all writes under way, as long as one may take."""
        loop = asyncio.get_running_loop()
        ends: list[asyncio.Future[BaseException | None]] = []
        for batch in self._outstanding.owed:
            if isinstance(batch, _Writes):
                ends.append(loop.create_future())
                batch.waiting.append(ends[-1].set_result)
        if ends:
            await asyncio.wait(ends, timeout=self._management_budget_seconds)

    def _send_reads(self) -> None:
        batch, self._reads = self._reads, None
        if batch is not None:
            read = partial(self._nodes.read, list(batch.asked), batch.answers)
            self._send(batch, read, seconds=self._budget_seconds)

    def _send_writes(self) -> None:
        batch, self._writes = self._writes, None
        if self._gathering is not None:
            self._gathering.cancel()
        if batch is not None:
            # Released here, as the connection holds them packed.
            values, batch.values = batch.values, {}
            write = partial(self._nodes.write, values)
            self._send(batch, write, seconds=self._management_budget_seconds)

    def _send(
        self, batch: _Batch, command: Callable[[redis_nodes.Over], None], *, seconds: float
    ) -> None:
        """Send the batch's command; end the batch with it, or when the time is up."""
        if self._outstanding.is_too_much:
            batch.end()
            return

        def over(failure: BaseException | None) -> None:
            timer.cancel()
            self._outstanding.owed.discard(batch)
            batch.failure = (
                None if failure is None else redis_refusals.failure(failure, pattern=_KEYS)
            )
            batch.end()

        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, batch.time_is_up, _LAST_ITERATIONS)
        self._outstanding.owed.add(batch)
        command(over)


def _tell(done: Callable[[T], None], what: T) -> None:
    try:
        done(what)
    except Exception as error:  # noqa: BLE001 - a fault in one callback must not stop the others
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an answer of the cache could not be used", "exception": error}
        )
