"""Claims a batch, has the sidecar embed it, writes it, and begins again.

Between the claim and the write no transaction is open. `verdict` decides what happens to a batch
that fails; this module acts on it. At most one batch is bought and not yet written, so a worker
that dies with its sidecar loses no more. More workers embed more batches at once.
"""

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from embedding_contract.index_report import Problem
from embedding_vectors.backfill import verdict
from embedding_vectors.backfill.claims import Batch, Claimed, Claims, Settled
from embedding_vectors.backfill.pace import PacedError
from embedding_vectors.backfill.places import Place
from embedding_vectors.backfill.verdict import Fault, Verdict
from embedding_vectors.backfill.waits import (
    DATABASE_MOST_SECONDS,
    PROVIDER_MOST_SECONDS,
    Backoff,
    Stop,
    StoppedError,
)
from embedding_vectors.embedding_client import (
    BYTES_PER_NUMBER,
    Embedded,
    EmbeddingClient,
    EmbeddingRefusedError,
)
from embedding_vectors.errors import DatabaseError
from embedding_vectors.metrics import Metrics

IDLE_SECONDS: Final = 0.25
"""The wait for another look for free rows where there were none."""
REQUEST_BYTES: Final = 4 * 2**20
REQUEST_ROWS: Final = 2_048
"""The most that one request to the sidecar holds (docs/sidecar.md, A request)."""
FAULTS_BEFORE_HALVING: Final = 3
RETRY_SECONDS: Final = 1.0
SUSPECT_SECONDS: Final = 3.0
"""A row that failed alone is left out for so long, while others are tried."""
PROBE: Final = "Does the model answer?"
"""Sent where the last row that is left fails alone: is the row at fault, or the provider?"""
DATA_EXCEPTION: Final = "22"
"""The SQLSTATE class of a value that its type does not accept."""


T = TypeVar("T")


@dataclass
class Filling:
    """A target being filled.

    `batch_rows` shrinks while the provider fails, in case one text is the cause. `suspects` are
    rows that failed alone; they are charged when others succeed meanwhile.
    """

    place: Place
    most_rows: int
    batch_rows: int
    not_before: float = 0.0
    is_given_up: bool = False
    problem: Problem | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(PROVIDER_MOST_SECONDS))
    suspects: set[str] = field(default_factory=set)

    def wait(self, seconds: float) -> None:
        """Send no request for this target for so long."""
        self.not_before = max(self.not_before, time.monotonic() + seconds)

    @property
    def may_ask(self) -> bool:
        """True if rows are to be claimed now."""
        return not self.is_given_up and time.monotonic() >= self.not_before


@dataclass
class Shared:
    """The targets being filled, and their pauses. `paused_until` is of time.monotonic.

    `pause_problem` is the reason of a pause, None where it is the index's own rate limit.
    """

    fillings: list[Filling]
    stop: Stop
    observe: Metrics
    paused_until: float = 0.0
    pause_problem: Problem | None = None
    database: Backoff = field(default_factory=lambda: Backoff(DATABASE_MOST_SECONDS))
    database_problem: Problem | None = None
    fatal: Problem | None = None

    def database_failed(self, error: DatabaseError) -> float:
        """Record that a statement failed; returns the seconds to wait now."""
        self.database_problem = error.problem
        if not error.retry_helps:
            self.fatal = error.problem
        return self.database.failed()

    def database_answered(self) -> None:
        """Record that a statement succeeded."""
        self.database.succeeded()
        self.database_problem = None

    def pause(self, seconds: float, problem: Problem | None = None) -> None:
        """Send no request for any target for so long."""
        until = time.monotonic() + seconds
        if until > self.paused_until:
            self.paused_until, self.pause_problem = until, problem


class Filler:
    """Fills the targets in turn, until it is stopped."""

    def __init__(self, shared: Shared, held: Claims, client: EmbeddingClient) -> None:
        self._shared = shared
        self._held = held
        self._client = client
        self._turn = 0
        self._may_hold = False

    async def run(self) -> None:
        """Work until `stop` is set."""
        shared = self._shared
        while not shared.stop.is_set:
            try:
                await shared.stop.sleep(0 if await self._round() else IDLE_SECONDS)
            except StoppedError:
                return
            except DatabaseError as error:
                # This worker may still hold rows of the batch under way without knowing it.
                self._may_hold = True
                with contextlib.suppress(StoppedError):  # then the loop ends
                    await shared.stop.sleep(shared.database_failed(error))

    async def give_back(self) -> None:
        """Release all rows that this worker holds.

        Raises:
            DatabaseError: they are free when their leases expire.
        """
        for filling in self._shared.fillings:
            await self._held.give_all_back(filling.place)

    async def _round(self) -> bool:
        """Process one batch of one target; False where there was none."""
        shared = self._shared
        if (rest := shared.paused_until - time.monotonic()) > 0:
            await shared.stop.sleep(rest)
        if self._may_hold:
            await self.give_back()
            self._may_hold = False
        for _ in shared.fillings:
            self._turn = (self._turn + 1) % len(shared.fillings)
            filling = shared.fillings[self._turn]
            if not filling.may_ask:
                continue
            try:
                batch = await self._held.claim(filling.place, most=filling.batch_rows)
            except PacedError as paced:
                shared.pause(paced.wait_seconds)
                return True
            shared.database_answered()
            if batch.claimed:
                await self._fill(filling, batch)
                return True
        return False

    async def _fill(self, filling: Filling, batch: Batch) -> None:
        began = time.monotonic()
        if batch.parked:
            await self._settle(filling, batch.parked)
        # A row that failed before is sent alone, so that it fails no other row.
        fresh = [it for it in batch.rows if not it.attempts]
        waiting: list[Sequence[Claimed]] = [[it] for it in batch.rows if it.attempts]
        waiting[:0] = [fresh] if fresh else []
        is_counted = True
        while waiting:
            rows = waiting.pop(0)
            if len(rows) > 1 and _is_too_large(rows):
                waiting[:0] = _halves(rows)
                continue
            if not is_counted:
                try:
                    await self._held.take_request()
                except PacedError as paced:
                    self._shared.pause(paced.wait_seconds)
                    await self._give_back(filling, [rows, *waiting])
                    return
            is_counted = False
            refused = await self._embed(filling, rows)
            if refused is None:
                continue
            if refused.fault is not Fault.TEXT:
                await self._give_back(filling, waiting)
                await self._act_on(filling, refused, rows)
                return
            if len(rows) > 1:
                waiting[:0] = _halves(rows)
            else:
                await self._blame(filling, rows[0].key)
        self._shared.observe.batch_took(time.monotonic() - began)

    async def _embed(self, filling: Filling, rows: Sequence[Claimed]) -> Verdict | None:
        """Embed rows and write them; returns the verdict where there are no vectors."""
        row = filling.place.row
        try:
            answer = await self._shared.stop.unless_set(
                self._client.embed(
                    [it.text for it in rows],
                    model=row.model,
                    dimensions=row.dimensions if row.request_dimensions else None,
                )
            )
        except EmbeddingRefusedError as refusal:
            return verdict.of(refusal, model=row.model)
        if unfit := _unfit(filling.place, answer):
            return Verdict(fault=Fault.PROVIDER, problem=unfit)
        settled = [
            Settled(key=it.key, text_hash=it.text_hash, vector=vector)
            for it, vector in zip(rows, answer.vectors, strict=True)
        ]
        await self._settle(filling, settled)
        await self._succeeded(filling, {it.key for it in rows})
        return None

    async def _settle(self, filling: Filling, settled: Sequence[Settled]) -> None:
        """Write outcomes, and wait for a lost database; rows not written are claimed again."""
        while True:
            try:
                written = await self._held.settle(filling.place, settled)
            except DatabaseError as error:
                if (error.problem.sqlstate or "").startswith(DATA_EXCEPTION):
                    # The column does not accept one of these values.
                    await self._settle_apart(filling, settled)
                    return
                # The vectors are bought: they are kept until they can be written.
                await self._shared.stop.sleep(self._shared.database_failed(error))
                if not error.retry_helps:
                    raise
            else:
                break
        self._shared.database_answered()
        vectors = {it.key for it in settled if it.vector is not None}
        self._shared.observe.rows_embedded(len(vectors & set(written)))
        missed = [it.key for it in settled if it.key not in set(written)]
        if missed:
            await self._held.give_back(filling.place, missed, after_seconds=RETRY_SECONDS)

    async def _settle_apart(self, filling: Filling, settled: Sequence[Settled]) -> None:
        if len(settled) > 1:
            for half in _halves(settled):
                await self._settle(filling, half)
        else:
            await self._blame(filling, settled[0].key)

    async def _blame(self, filling: Filling, key: str) -> None:
        """Charge a row with a failure of its own; after the last, the next claim parks it."""
        await self._held.give_back(filling.place, [key], after_seconds=RETRY_SECONDS, charged=1)

    async def _give_back(
        self, filling: Filling, groups: Sequence[Sequence[Claimed]], *, after_seconds: float = 0
    ) -> None:
        if keys := [it.key for rows in groups for it in rows]:
            await self._held.give_back(filling.place, keys, after_seconds=after_seconds)

    async def _act_on(self, filling: Filling, refused: Verdict, rows: Sequence[Claimed]) -> None:
        """Release the rows, and wait or give up."""
        is_suspect = refused.fault is Fault.PROVIDER and len(rows) == 1
        if is_suspect and filling.suspects == {rows[0].key} and await self._answers(filling):
            # The provider embeds another text: this row is at fault.
            filling.backoff.succeeded()
            await self._blame(filling, rows[0].key)
            return
        await self._give_back(filling, [rows], after_seconds=SUSPECT_SECONDS if is_suspect else 0)
        if refused.fault is Fault.TARGET:
            filling.problem = refused.problem
            filling.is_given_up = True
        elif refused.fault is Fault.QUOTA:
            self._shared.pause(refused.wait_seconds or 0, refused.problem)
        else:
            filling.problem = refused.problem
            wait = filling.backoff.failed()
            filling.wait(wait if refused.wait_seconds is None else refused.wait_seconds)
            if filling.backoff.failures >= FAULTS_BEFORE_HALVING:
                filling.batch_rows = max(1, filling.batch_rows // 2)
            if is_suspect:
                # Two different rows failed in turn: the provider fails for all.
                is_first = filling.suspects <= {rows[0].key}
                filling.suspects = {rows[0].key} if is_first else set()

    async def _answers(self, filling: Filling) -> bool:
        """True if the target's model embeds a text that no cache can hold."""
        row = filling.place.row
        try:
            await self._held.take_request()
            await self._shared.stop.unless_set(
                self._client.embed(
                    [f"{PROBE} {secrets.token_hex(8)}"],
                    model=row.model,
                    dimensions=row.dimensions if row.request_dimensions else None,
                )
            )
        except (EmbeddingRefusedError, PacedError):
            return False
        return True

    async def _succeeded(self, filling: Filling, keys: set[str]) -> None:
        suspects, filling.suspects = filling.suspects - keys, set()
        if suspects:
            await self._held.charge(filling.place, sorted(suspects))
        filling.backoff.succeeded()
        filling.problem = None
        filling.batch_rows = min(filling.most_rows, filling.batch_rows * 2)


def _unfit(place: Place, answer: Embedded) -> Problem | None:
    """The reason why the vectors do not fit the target, if they do not."""
    row = place.row
    if answer.space != row.space:
        message = f"{row.id} is of {row.space}, the answer of {answer.space}: it is not written"
        return Problem(reason="SpaceDiffers", message=message)
    if any(len(it) != row.dimensions * BYTES_PER_NUMBER for it in answer.vectors):
        message = f"{row.id} has {row.dimensions} dimensions, the answer others"
        return Problem(reason="DimensionsDiffer", message=message)
    return None


def _is_too_large(rows: Sequence[Claimed]) -> bool:
    return len(rows) > REQUEST_ROWS or sum(len(it.text.encode()) for it in rows) > REQUEST_BYTES


def _halves(rows: Sequence[T]) -> list[Sequence[T]]:
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]]
