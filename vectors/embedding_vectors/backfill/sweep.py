"""Finds changed rows, page by page in the order of keys: each page is one short transaction.

It finds a new row, a text whose hash is another, and a row that is gone or no longer to be
embedded, whatever wrote the table, with or without the trigger.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from psycopg.sql import SQL, Literal

from embedding_vectors.backfill import counts
from embedding_vectors.backfill.places import Place
from embedding_vectors.database.connections import Connection, Connections

PAGE_ROWS: Final = 500

_PAGE = SQL("""
WITH page AS MATERIALIZED (
  SELECT {key} AS key, {hash} AS hash, pg_catalog.row_number() OVER (ORDER BY {keys}) AS place
    FROM {relation} t WHERE {after} AND {condition} ORDER BY {keys} LIMIT {most}
), differing AS (
  SELECT page.key, page.hash, s.key IS NULL AS is_new
    FROM page LEFT JOIN {states} s ON s.target = {target} AND s.key = page.key
   WHERE s.key IS NULL OR s.text_hash IS DISTINCT FROM page.hash OR s.state = 'deleted'
), added AS (
  INSERT INTO {states} (target, key, text_hash, state, counted)
  SELECT {target}, key, hash, 'pending', 'pending' FROM differing WHERE is_new ORDER BY key
  ON CONFLICT DO NOTHING RETURNING key
), locked AS MATERIALIZED (
  SELECT s.key, differing.hash
    FROM differing JOIN {states} s ON s.target = {target} AND s.key = differing.key
   WHERE NOT is_new AND (s.text_hash IS DISTINCT FROM differing.hash OR s.state = 'deleted')
   ORDER BY s.key FOR UPDATE OF s SKIP LOCKED
), changed AS (
  UPDATE {states} s
     SET text_hash = locked.hash, state = 'pending', attempts = 0, reason = NULL,
         lease_owner = NULL, lease_until = NULL
    FROM locked WHERE s.target = {target} AND s.key = locked.key
  RETURNING s.key
)
SELECT (SELECT count(*) FROM page), (SELECT key FROM page ORDER BY place DESC LIMIT 1),
       (SELECT count(*) FROM added), (SELECT count(*) FROM changed)
""")
_GONE = SQL("""
WITH page AS MATERIALIZED (
  SELECT key FROM {states} WHERE target = {target} AND key > %s ORDER BY key LIMIT {most}
), gone AS MATERIALIZED (
  SELECT s.key FROM page JOIN {states} s ON s.target = {target} AND s.key = page.key
   WHERE s.state <> 'deleted'
     AND NOT EXISTS (SELECT FROM {relation} t WHERE {is_row} AND {condition})
   ORDER BY s.key FOR UPDATE OF s SKIP LOCKED
), marked AS (
  UPDATE {states} s SET state = 'deleted', lease_owner = NULL, lease_until = NULL
    FROM gone WHERE s.target = {target} AND s.key = gone.key
)
SELECT (SELECT count(*) FROM page), (SELECT max(key) FROM page), (SELECT count(*) FROM gone)
""")
_DELETED = SQL(
    "SELECT key, counted FROM {states} WHERE target = %s AND state = 'deleted'"
    " AND state IS DISTINCT FROM counted ORDER BY key LIMIT {most} FOR UPDATE SKIP LOCKED"
)
_STILL_THERE = SQL("SELECT u.key, ({condition}) FROM {relation} t JOIN {named} ON {is_key}")
_LOCK = SQL(
    "SELECT u.key FROM {relation} t JOIN {named} ON {is_key} FOR NO KEY UPDATE OF t SKIP LOCKED"
)
_BACK = SQL(
    "UPDATE {states} SET state = 'pending', text_hash = NULL WHERE target = %s AND key = ANY(%s)"
)
_FORGET = SQL("DELETE FROM {states} WHERE target = %s AND key = ANY(%s)")


@dataclass(slots=True)
class Found:
    """The findings of a sweep, which goes on after `after` in the table, then in the states."""

    after: list[Any] | None = None
    after_state: str = ""
    is_over: bool = False
    is_table_over: bool = False
    added: int = 0
    changed: int = 0
    gone: int = 0

    @property
    def total(self) -> int:
        """The number of rows that need work."""
        return self.added + self.changed + self.gone


async def next_page(connections: Connections, place: Place, found: Found) -> None:
    """Sweep one more page, of the table and then of the states; `found` has the position.

    Raises:
        DatabaseError: the same page can be read again.
    """
    if not found.is_table_over:
        await _next_of_table(connections, place, found)
    else:
        await _next_of_states(connections, place, found)


async def _next_of_table(connections: Connections, place: Place, found: Found) -> None:
    source = place.source
    statement = _PAGE.format(
        key=source.key(),
        hash=source.text_hash,
        keys=source.key_columns,
        relation=source.relation,
        after=SQL("true") if found.after is None else source.after,
        condition=source.condition,
        states=place.states,
        target=_literal(place.id),
        most=Literal(PAGE_ROWS),
    )
    async with connections.transaction() as connection:
        ran = await connection.execute(statement, found.after or ())
        (row,) = await ran.fetchall()
        seen, last, added, changed = row
        await counts.add(connection, place, counts.Difference(rows=added, done=0, parked=0))
    found.added += added
    found.changed += changed
    found.is_table_over = seen < PAGE_ROWS
    if last is not None:
        found.after = json.loads(last)


async def _next_of_states(connections: Connections, place: Place, found: Found) -> None:
    statement = _GONE.format(
        states=place.states,
        target=_literal(place.id),
        relation=place.source.relation,
        is_row=place.source.is_row_of_state(),
        condition=place.source.condition,
        most=Literal(PAGE_ROWS),
    )
    async with connections.transaction() as connection:
        ran = await connection.execute(statement, (found.after_state,))
        (row,) = await ran.fetchall()
    seen, last, gone = row
    found.gone += gone
    found.is_over = seen < PAGE_ROWS
    found.after_state = last or found.after_state


async def remove(connections: Connections, place: Place) -> int:
    """Remove the vectors of some rows that are gone; returns how many rows were looked at.

    Raises:
        DatabaseError: the same rows can be tried again.
    """
    async with connections.transaction() as connection:
        ran = await connection.execute(
            _DELETED.format(states=place.states, most=Literal(PAGE_ROWS)), (place.id,)
        )
        counted: dict[str, str | None] = dict(await ran.fetchall())
        if not counted:
            return 0
        returned, kept = await _still_there(connection, place, sorted(counted))
        forgotten = sorted(set(counted) - returned - kept)
        await connection.execute(_BACK.format(states=place.states), (place.id, sorted(returned)))
        await connection.execute(place.remove, place.source.columns_of(forgotten))
        await connection.execute(_FORGET.format(states=place.states), (place.id, forgotten))
        changes = ((counted[key], counts.DELETED) for key in forgotten)
        await counts.add(connection, place, counts.difference(changes))
    return len(forgotten) + len(returned)


async def _still_there(
    connection: Connection, place: Place, keys: list[str]
) -> tuple[set[str], set[str]]:
    """The rows that are to be embedded again, and those whose vector cannot be removed now."""
    source = place.source
    parts = {
        "relation": source.relation,
        "named": source.unnested_with(key="text"),
        "is_key": source.is_key(),
    }
    values = (*source.columns_of(keys), keys)
    ran = await connection.execute(_STILL_THERE.format(condition=source.condition, **parts), values)
    there: dict[str, bool] = dict(await ran.fetchall())
    returned = {key for key, is_wanted in there.items() if is_wanted}
    if place.row.column is None:
        return returned, set()
    ran = await connection.execute(_LOCK.format(**parts), values)
    locked = {row[0] for row in await ran.fetchall()}
    return returned, set(there) - returned - locked


def _literal(target: str) -> Literal:
    # The statement is run with values, so a literal % must be doubled.
    return Literal(target.replace("%", "%%"))
