"""Rows that one worker claims: leased to it, then written or released.

Every statement that locks states skips rows that others have locked: a trigger locks them in an
application's transaction, which must neither wait long nor lose a deadlock to a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg.sql import SQL

from embedding_contract.index_document import IndexDocument
from embedding_vectors.backfill import counts, pace
from embedding_vectors.backfill.places import Place
from embedding_vectors.database.connections import Connection, Connections

EMPTY: Final = "Empty"
TOO_LONG: Final = "TooLong"
FAILED: Final = "FailedFourTimes"
MOST_ATTEMPTS: Final = 4

_CLAIM = SQL("""
WITH free AS MATERIALIZED (
  SELECT key FROM {states}
   WHERE target = %(target)s AND state = 'pending'
     AND (lease_until IS NULL OR lease_until < pg_catalog.clock_timestamp())
   ORDER BY key LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
UPDATE {states} s
   SET lease_owner = %(owner)s,
       lease_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %(seconds)s)
  FROM free WHERE s.target = %(target)s AND s.key = free.key
RETURNING s.key, s.attempts
""")
_READ = SQL("""
SELECT u.key, {hash},
       CASE WHEN pg_catalog.octet_length(pg_catalog.convert_to({text}, 'UTF8')) <= %s
            THEN {text} END
  FROM {relation} t JOIN {named} ON {is_key} WHERE {condition}
""")
_READ_AS = SQL("""
UPDATE {states} s SET text_hash = u.hash
  FROM unnest(%s::text[], %s::bytea[]) AS u(key, hash)
 WHERE s.target = %s AND s.key = u.key AND s.text_hash IS DISTINCT FROM u.hash
""")
_GONE = SQL(
    "UPDATE {states} SET state = 'deleted', lease_owner = NULL, lease_until = NULL"
    " WHERE target = %s AND key = ANY(%s)"
)
_HELD = SQL(
    "SELECT key, counted FROM {states}"
    " WHERE target = %s AND key = ANY(%s) AND lease_owner = %s AND state = 'pending'"
    " ORDER BY key FOR UPDATE SKIP LOCKED"
)
_SETTLE = SQL("""
UPDATE {states} s
   SET state = u.state, counted = u.state, text_hash = u.hash, reason = u.reason,
       attempts = CASE WHEN u.state = 'done' THEN 0 ELSE s.attempts END,
       lease_owner = NULL, lease_until = NULL
  FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::text[])
       AS u(key, state, hash, reason)
 WHERE s.target = %s AND s.key = u.key
""")
_GIVE_BACK = SQL("""
WITH mine AS MATERIALIZED (
  SELECT key FROM {states}
   WHERE target = %(target)s AND key = ANY(%(keys)s) AND lease_owner = %(owner)s
   ORDER BY key FOR UPDATE SKIP LOCKED
)
UPDATE {states} s
   SET lease_owner = NULL, attempts = s.attempts + %(charged)s,
       lease_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %(seconds)s)
  FROM mine WHERE s.target = %(target)s AND s.key = mine.key
""")
_CHARGE = SQL("""
WITH free AS MATERIALIZED (
  SELECT target, key FROM {states}
   WHERE target = %s AND key = ANY(%s) AND state = 'pending' AND lease_owner IS NULL
   ORDER BY key FOR UPDATE SKIP LOCKED
)
UPDATE {states} s SET attempts = s.attempts + 1
  FROM free WHERE s.target = free.target AND s.key = free.key
""")
_GIVE_ALL_BACK = SQL("""
WITH mine AS MATERIALIZED (
  SELECT key FROM {states}
   WHERE target = %(target)s AND state = 'pending' AND lease_owner = %(owner)s
   ORDER BY key FOR UPDATE SKIP LOCKED
)
UPDATE {states} s SET lease_owner = NULL, lease_until = NULL
  FROM mine WHERE s.target = %(target)s AND s.key = mine.key
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A row to be embedded: its text, that text's SHA-256, and how often it failed before."""

    key: str
    text: str = field(repr=False)
    text_hash: bytes
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The outcome for a row: a vector, or a reason to park it."""

    key: str
    text_hash: bytes
    vector: bytes | None = field(default=None, repr=False)
    reason: str | None = None

    @property
    def state(self) -> str:
        """The row's new state."""
        return "done" if self.vector is not None else "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows with a lease, committed. `parked` need no request; `claimed` is 0 if none was free."""

    rows: tuple[Claimed, ...] = ()
    parked: tuple[Settled, ...] = ()
    claimed: int = 0


class Claims:
    """The rows that one worker has leased; `owner` is the worker's unique name."""

    def __init__(
        self,
        connections: Connections,
        document: IndexDocument,
        *,
        owner: str,
        lease_seconds: float,
    ) -> None:
        self._connections = connections
        self._document = document
        self._owner = owner
        self._lease_seconds = lease_seconds

    async def claim(self, place: Place, *, most: int) -> Batch:
        """Claim free rows in the order of their keys, and count one request for them.

        Raises:
            pace.PacedError: the minute's requests are used up; nothing is claimed.
            DatabaseError: nothing is claimed, or the outcome is unknown and the lease expires.
        """
        values = {
            "target": place.id,
            "most": most,
            "owner": self._owner,
            "seconds": self._lease_seconds,
        }
        async with self._connections.transaction() as connection:
            ran = await connection.execute(_CLAIM.format(states=place.states), values)
            attempts: dict[str, int] = dict(await ran.fetchall())
            if not attempts:
                return Batch()
            batch = await self._read(connection, place, attempts)
            if batch.rows:
                await self.count_request(connection)
        return batch

    async def count_request(self, connection: Connection) -> None:
        """Count one request of this minute.

        Raises:
            pace.PacedError: the request would exceed the limit.
        """
        document = self._document
        most = document.limits.requests_per_minute
        await pace.take(connection, schema=document.schema, uid=document.uid, most=most)

    async def take_request(self) -> None:
        """Count one more request for rows that are already claimed.

        Raises:
            pace.PacedError: the request would exceed the limit.
            DatabaseError: it could not be counted.
        """
        if self._document.limits.requests_per_minute is not None:
            async with self._connections.transaction() as connection:
                await self.count_request(connection)

    async def _read(self, connection: Connection, place: Place, attempts: dict[str, int]) -> Batch:
        keys, source = sorted(attempts), place.source
        ran = await connection.execute(
            _READ.format(
                hash=source.text_hash,
                text=source.text,
                relation=source.relation,
                named=source.unnested_with(key="text"),
                is_key=source.is_key(),
                condition=source.condition,
            ),
            (self._document.limits.text_bytes, *source.columns_of(keys), keys),
        )
        found = await ran.fetchall()
        hashes = [row[1] for row in found]
        await connection.execute(
            _READ_AS.format(states=place.states), ([row[0] for row in found], hashes, place.id)
        )
        if gone := sorted(set(keys) - {row[0] for row in found}):
            await connection.execute(_GONE.format(states=place.states), (place.id, gone))
        rows, parked = [], []
        for key, text_hash, text in sorted(found, key=lambda row: row[0]):
            if reason := _reason_to_park(text, attempts[key]):
                parked.append(Settled(key=key, text_hash=text_hash, reason=reason))
            else:
                rows.append(
                    Claimed(key=key, text=text, text_hash=text_hash, attempts=attempts[key])
                )
        return Batch(rows=tuple(rows), parked=tuple(parked), claimed=len(keys))

    async def settle(self, place: Place, settled: Sequence[Settled]) -> tuple[str, ...]:
        """Write the outcomes of rows whose lease and text are unchanged; returns their keys.

        Raises:
            DatabaseError: nothing was written, or the outcome is unknown.
        """
        by_key = {it.key: it for it in settled}
        async with self._connections.transaction() as connection:
            ran = await connection.execute(
                _HELD.format(states=place.states), (place.id, list(by_key), self._owner)
            )
            counted: dict[str, str | None] = dict(await ran.fetchall())
            held = [by_key[key] for key in sorted(counted)]
            if not held:
                return ()
            same = await _lock_same(connection, place, held)
            written = [it for it in held if it.key in same]
            await _write(connection, place, written)
            await connection.execute(
                _SETTLE.format(states=place.states),
                (
                    [it.key for it in written],
                    [it.state for it in written],
                    [it.text_hash for it in written],
                    [it.reason for it in written],
                    place.id,
                ),
            )
            changes = ((counted[it.key], it.state) for it in written)
            await counts.add(connection, place, counts.difference(changes))
        return tuple(it.key for it in written)

    async def give_back(
        self, place: Place, keys: Sequence[str], *, after_seconds: float = 0, charged: int = 0
    ) -> None:
        """Release rows, free after `after_seconds`; `charged` is added to their attempts.

        Raises:
            DatabaseError: they are free when their lease expires.
        """
        async with self._connections.transaction() as connection:
            values = {
                "target": place.id,
                "keys": list(keys),
                "owner": self._owner,
                "charged": charged,
                "seconds": after_seconds,
            }
            await connection.execute(_GIVE_BACK.format(states=place.states), values)

    async def charge(self, place: Place, keys: Sequence[str]) -> None:
        """Add a failure to rows that no worker holds.

        Raises:
            DatabaseError: they are not charged.
        """
        async with self._connections.transaction() as connection:
            await connection.execute(_CHARGE.format(states=place.states), (place.id, list(keys)))

    async def give_all_back(self, place: Place) -> None:
        """Release all rows of a target that this worker holds.

        Raises:
            DatabaseError: they are free when their leases expire.
        """
        async with self._connections.transaction() as connection:
            values = {"target": place.id, "owner": self._owner}
            await connection.execute(_GIVE_ALL_BACK.format(states=place.states), values)


def _reason_to_park(text: str | None, attempts: int) -> str | None:
    if text is None:
        return TOO_LONG
    if not text.strip():
        return EMPTY
    return FAILED if attempts >= MOST_ATTEMPTS else None


async def _lock_same(
    connection: Connection, place: Place, settled: Sequence[Settled]
) -> frozenset[str]:
    keys = [it.key for it in settled]
    hashes = [it.text_hash for it in settled]
    ran = await connection.execute(place.lock_same, (*place.source.columns_of(keys), keys, hashes))
    return frozenset(row[0] for row in await ran.fetchall())


async def _write(connection: Connection, place: Place, settled: Sequence[Settled]) -> None:
    source = place.source
    vectors = {it.key: place.text_of(it.vector) for it in settled if it.vector is not None}
    if vectors:
        keys = source.columns_of(list(vectors))
        await connection.execute(place.write, (*keys, list(vectors.values())))
    # Otherwise searches would find the row by the vector of its older text.
    if emptied := [it.key for it in settled if it.vector is None]:
        await connection.execute(place.remove, source.columns_of(emptied))
