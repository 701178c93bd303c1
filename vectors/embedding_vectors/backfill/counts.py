"""The counts of a target follow the states of its rows, one difference at a time.

Each state row records the state that it is counted as. So the counts are right once the difference
is added, whatever has set the state, and no count ever reads the whole table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from psycopg.sql import SQL

from embedding_vectors.backfill.places import Place
from embedding_vectors.database.connections import Connection

DELETED: Final = "deleted"
COUNTED_AT_ONCE: Final = 1_000

_ADD = SQL(
    "UPDATE {targets} SET rows = greatest(rows + %s, 0), done = greatest(done + %s, 0),"
    " parked = greatest(parked + %s, 0), counted_at = clock_timestamp() WHERE target = %s"
)
_UNCOUNTED = SQL("""
WITH found AS MATERIALIZED (
  SELECT key, counted, state FROM {states}
   WHERE target = %(target)s AND state IS DISTINCT FROM counted AND state <> 'deleted'
   ORDER BY key LIMIT %(most)s FOR UPDATE SKIP LOCKED
), marked AS (
  UPDATE {states} s SET counted = found.state FROM found
   WHERE s.target = %(target)s AND s.key = found.key
)
SELECT counted, state FROM found
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The numbers to add to the counts of a target."""

    rows: int
    done: int
    parked: int


def difference(changes: Iterable[tuple[str | None, str]]) -> Difference:
    """The difference that rows make, each given as the state counted and the state now."""
    rows = done = parked = 0
    for counted, state in changes:
        rows += (state != DELETED) - (counted is not None)
        done += (state == "done") - (counted == "done")
        parked += (state == "parked") - (counted == "parked")
    return Difference(rows=rows, done=done, parked=parked)


async def add(connection: Connection, place: Place, added: Difference) -> None:
    """Add to the counts, as a transaction's last statement: all workers wait for this row."""
    if added != Difference(rows=0, done=0, parked=0):
        await connection.execute(
            _ADD.format(targets=place.targets), (added.rows, added.done, added.parked, place.id)
        )


async def count_marked(connection: Connection, place: Place) -> int:
    """Count rows that a trigger or a sweep has marked; returns their number."""
    ran = await connection.execute(
        _UNCOUNTED.format(states=place.states), {"target": place.id, "most": COUNTED_AT_ONCE}
    )
    changes = await ran.fetchall()
    await add(connection, place, difference((it[0], it[1]) for it in changes))
    return len(changes)
