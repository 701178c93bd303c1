"""Requests per minute of an index, over all its workers, on the database's clock."""

from typing import Final

from psycopg.sql import SQL, Identifier

from embedding_vectors.database import bookkeeping
from embedding_vectors.database.connections import Connection

_TAKE: Final = SQL("""
INSERT INTO {} AS m (index_uid, minute, requests)
VALUES (%(uid)s, pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()), 1)
ON CONFLICT (index_uid, minute) DO UPDATE SET requests = m.requests + 1
 WHERE m.requests < %(most)s
RETURNING requests
""")
_REST: Final = SQL("SELECT 60 - extract(second FROM pg_catalog.clock_timestamp())::float8")
_FORGET: Final = SQL(
    "DELETE FROM {} WHERE index_uid = %s AND minute < pg_catalog.clock_timestamp() - interval '1h'"
)


class PacedError(Exception):
    """The minute's requests are used up; the next minute begins in `wait_seconds`."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("the minute is used up")
        self.wait_seconds = wait_seconds


async def take(connection: Connection, *, schema: str, uid: str, most: int | None) -> None:
    """Count one request, in the caller's transaction, where a limit is set.

    Raises:
        PacedError: the request would exceed the limit; the transaction must be rolled back.
    """
    if most is None:
        return
    table = Identifier(schema.replace("%", "%%"), bookkeeping.MINUTE)
    ran = await connection.execute(_TAKE.format(table), {"uid": uid, "most": most})
    if await ran.fetchone() is None:
        rest = await (await connection.execute(_REST)).fetchone()
        raise PacedError(float(rest[0]) if rest else 1.0)


async def forget(connection: Connection, *, schema: str, uid: str) -> None:
    """Delete minutes that are long over."""
    table = Identifier(schema.replace("%", "%%"), bookkeeping.MINUTE)
    await connection.execute(_FORGET.format(table), (uid,))
