"""A whole backfill of one document: plan, filler, sweeps, phases, report.

It sweeps, fills until nothing is pending, and sweeps again, until a sweep finds nothing new.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from embedding_contract.index_document import IndexDocument
from embedding_contract.index_report import IndexReport, Problem
from embedding_vectors import report, settings
from embedding_vectors.backfill import counts, pace, phases, places, sweep
from embedding_vectors.backfill.claims import Claims
from embedding_vectors.backfill.filler import Filler, Filling, Shared
from embedding_vectors.backfill.waits import DATABASE_MOST_SECONDS, Backoff, Stop, StoppedError
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.connections import Connections
from embedding_vectors.database.facts import Facts, TargetRow
from embedding_vectors.embedding_client import ANSWER_SECONDS, EmbeddingClient
from embedding_vectors.errors import DatabaseError, RefusedError
from embedding_vectors.metrics import Metrics
from embedding_vectors.schema import apply, expressions, plan

LEASE_SECONDS: Final = ANSWER_SECONDS + 30.0
"""Longer than the sidecar's answer may take, so that no row is embedded twice at once."""
POLL_SECONDS: Final = 0.5
MOST_SWEEPS: Final = 5
"""After so many, a table that changes all the time is left to the next run."""
PATIENCE_SECONDS: Final = 600.0
"""A run in which nothing succeeds for so long ends, and its Job begins another."""
STOP_SECONDS: Final = 4.0
"""A stopped worker has ten; after these its connections are cut, and its leases expire. Opening
a connection takes as long at most."""
CONNECTIONS: Final = 3


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The length of a lease, and the longest time that a run goes on without success."""

    lease_seconds: float = LEASE_SECONDS
    patience_seconds: float = PATIENCE_SECONDS


class IncompleteError(Exception):
    """The run cannot be completed: a problem says why."""


@dataclass
class _Seen:
    """The last figures of the bookkeeping, and the rates at which they change."""

    targets: tuple[TargetRow, ...] = ()
    began: dict[str, tuple[float, int]] = field(default_factory=dict)
    rates: dict[str, report.Rate] = field(default_factory=dict)


class Worker:
    """Carries one document out, until its targets are filled or it is stopped."""

    def __init__(
        self,
        loaded: settings.Loaded,
        *,
        connections: Connections,
        client: EmbeddingClient,
        observe: Metrics,
        stop: Stop,
        say: Callable[[str], None],
        timing: Timing,
    ) -> None:
        self._document: IndexDocument = loaded.document
        self._fingerprint = loaded.fingerprint
        self._connections = connections
        self._client = client
        self._observe = observe
        self._stop = stop
        self._say = say
        self._timing = timing
        self._problems: list[Problem] = []
        self._shared = Shared(fillings=[], stop=stop, observe=observe)
        self._backoff = Backoff(DATABASE_MOST_SECONDS)
        self._seen = _Seen()

    def report(self) -> IndexReport:
        """The current report."""
        problems = [*self._problems]
        problems += [it.problem for it in self._shared.fillings if it.problem is not None]
        if self._shared.database_problem is not None:
            problems.append(self._shared.database_problem)
        waits = self._shared.paused_until - time.monotonic()
        until = datetime.now(UTC) + timedelta(seconds=waits)
        waits_for = self._shared.pause_problem if waits > 0 else None
        if waits_for is not None:
            problems.append(waits_for)
        return report.of(
            self._document,
            fingerprint=self._fingerprint,
            targets=self._seen.targets,
            problems=problems,
            rates=self._seen.rates,
            waits_until=until.isoformat(timespec="seconds") if waits_for is not None else None,
        )

    async def run(self) -> bool:
        """Fill the targets; True where they are complete, and no problem but warnings is left."""
        is_filled = False
        try:
            facts = await self._prepared()
            self._shared.fillings[:] = await self._fillings(facts)
            await self._filled()
            is_filled = True
        except RefusedError as error:
            self._problems += error.problems
        except DatabaseError as error:
            self._problems.append(error.problem)
        except (IncompleteError, StoppedError) as error:
            self._say(f"ends: {error}")
        with suppress(DatabaseError):
            await self._look()
        return is_filled and all(it.is_warning for it in self.report().problems)

    async def _prepared(self) -> Facts:
        """Carry out the plan where that is allowed, and retire targets of older documents."""
        document = self._document
        facts = await self._patiently(lambda: apply.read(self._connections, document))
        self._seen.targets = facts.targets
        if document.applies_plan:
            # An index may take hours to build: a stop cancels it, and the next run begins anew.
            facts = await self._patiently(
                lambda: self._stop.unless_set(
                    apply.apply(self._connections, document, say=self._say)
                )
            )
        made = plan.make(document, facts)
        self._problems += made.warnings
        if made.refusals:
            raise RefusedError(*made.refusals)
        if made.pending:
            names = ", ".join(it.name for it in made.pending)
            message = f"embedding-vectors apply has still to do: {names}"
            self._problems.append(Problem(reason="PlanPending", message=message))
        if facts.table(bookkeeping.STATE) is None or facts.table(bookkeeping.MINUTE) is None:
            raise IncompleteError("the plan is pending")
        if not made.pending:
            await self._patiently(lambda: phases.retire_left(self._connections, document))
        if document.drops:
            await self._patiently(lambda: apply.drop(self._connections, document, say=self._say))
        await self._patiently(self._forget_minutes)
        return await self._patiently(lambda: apply.read(self._connections, document))

    async def _forget_minutes(self) -> None:
        document = self._document
        async with self._connections.transaction() as connection:
            await pace.forget(connection, schema=document.schema, uid=document.uid)

    async def _fillings(self, facts: Facts) -> list[Filling]:
        """The registered targets that are written: all but the retired ones."""
        document = self._document
        found = [
            places.of(document, facts, row)
            for row in facts.targets
            if row.index_uid == document.uid and row.phase != "Retired"
        ]
        rows = document.limits.batch_rows
        return [Filling(place=it, most_rows=rows, batch_rows=rows) for it in found if it]

    async def _filled(self) -> None:
        """Fill until the sweeps find nothing more; then release the leases."""
        self._shared.stop = Stop()
        held = Claims(
            self._connections,
            self._document,
            owner=secrets.token_hex(8),
            lease_seconds=self._timing.lease_seconds,
        )
        filler = Filler(self._shared, held, self._client)
        running = asyncio.create_task(filler.run())
        ending = asyncio.create_task(self._end_in_time())
        try:
            await self._swept_and_drained(running)
        finally:
            self._shared.stop.set()
            await asyncio.wait({running})
            with suppress(DatabaseError):
                await filler.give_back()
            ending.cancel()
            await asyncio.wait({ending})

    async def _end_in_time(self) -> None:
        """Cut the connections STOP_SECONDS after a stop, as the database may hang."""
        await self._stop.wait()
        self._say("stops, and gives its leases back")
        self._shared.stop.set()
        await asyncio.sleep(STOP_SECONDS)
        self._connections.cut()

    async def _swept_and_drained(self, running: asyncio.Task[None]) -> None:
        for number in range(MOST_SWEEPS):
            found = 0
            for filling in self._shared.fillings:
                found += await self._swept(filling)
            if number and not found:
                return
            await self._drained(running)

    async def _swept(self, filling: Filling) -> int:
        """The number of rows that a whole sweep of one target has found."""
        found = sweep.Found()
        while not found.is_over:
            await self._patiently(lambda: sweep.next_page(self._connections, filling.place, found))
            await self._stop.sleep(0)
        return found.total

    async def _drained(self, running: asyncio.Task[None]) -> None:
        """Wait until no row of any target is pending, and report each target that is ready."""
        open_ones = list(self._shared.fillings)
        while open_ones:
            if running.done():
                running.result()
            if self._shared.fatal is not None:
                self._problems.append(self._shared.fatal)
                raise IncompleteError("no retry helps")
            open_ones = [it for it in open_ones if not it.is_given_up]
            for filling in tuple(open_ones):
                if await self._patiently(lambda: self._settled(filling)):  # noqa: B023 - awaited here
                    open_ones.remove(filling)
            await self._patiently(self._look)
            self._give_up_in_time()
            if open_ones:
                await self._stop.sleep(POLL_SECONDS)

    async def _settled(self, filling: Filling) -> bool:
        """True if a target is complete: nothing deleted, uncounted or pending is left."""
        place, document = filling.place, self._document
        while await sweep.remove(self._connections, place):
            pass
        more = counts.COUNTED_AT_ONCE
        while more == counts.COUNTED_AT_ONCE:
            async with self._connections.transaction() as connection:
                more = await counts.count_marked(connection, place)
        async with self._connections.transaction() as connection:
            if await phases.is_pending(connection, document, place.id):
                return False
        if place.row.phase == "Filling":
            facts = await apply.read(self._connections, document)
            if not _is_indexed(document, facts, place.row):
                # The target is filled, but no search may use it before its index exists.
                return any(it.reason == "PlanPending" for it in self._problems)
        return await phases.make_ready(self._connections, document, place.id)

    async def _look(self) -> None:
        """Read the counts: for the report, the metrics and the rates."""
        async with self._connections.transaction() as connection:
            targets = await bookkeeping.targets(connection, schema=self._document.schema)
        self._seen.targets = targets
        now = time.monotonic()
        for row in targets:
            began, done = self._seen.began.setdefault(row.id, (now, row.done))
            rest: float = row.rows - row.done - row.parked
            self._seen.rates.pop(row.id, None)
            if row.done > done and rest > 0 and row.phase != "Retired":
                rate = (row.done - done) / (now - began)
                rest = rest / rate
                end = datetime.now(UTC) + timedelta(seconds=min(rest, 10**8))
                self._seen.rates[row.id] = report.Rate(
                    rows_per_second=round(rate, 2), expected_end=end.isoformat(timespec="seconds")
                )
        served = report.serving(self._document, targets) or self._document.target_id(
            self._document.target
        )
        for row in targets:
            if row.id == served:
                self._observe.index_counted(size=row.done, missing=row.waiting)

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """The result of `do`, which is retried while the database is away.

        Raises:
            DatabaseError: no retry helps, or none has for too long.
            StoppedError: the worker is to stop.
        """
        while True:
            try:
                done = await do()
            except DatabaseError as error:
                self._shared.database_problem = error.problem
                wait = self._backoff.failed()
                if (
                    not error.retry_helps
                    or self._backoff.failing_seconds > self._timing.patience_seconds
                ):
                    raise
                await self._stop.sleep(wait)
            else:
                self._backoff.succeeded()
                self._shared.database_problem = None
                return done

    def _give_up_in_time(self) -> None:
        longest = [self._shared.database.failing_seconds]
        longest += [
            it.backoff.failing_seconds for it in self._shared.fillings if not it.is_given_up
        ]
        if max(longest) > self._timing.patience_seconds:
            raise IncompleteError("nothing has succeeded for too long")


def _is_indexed(document: IndexDocument, facts: Facts, row: TargetRow) -> bool:
    table = facts.table(row.table or document.table)
    column = row.column or expressions.EMBEDDING_COLUMN
    return table is not None and table.has_vector_index(column)
