"""Phases of targets: unnamed ones are retired, filled ones become ready, one is switched to."""

from psycopg.sql import SQL, Composed, Identifier

from embedding_contract.index_document import IndexDocument
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.connections import Connection, Connections
from embedding_vectors.schema import statements
from embedding_vectors.schema.expressions import doubled

# The switched target stays until another one is; others that the document does not name retire.
_RETIRE = SQL(
    "UPDATE {targets} SET phase = 'Retired' WHERE index_uid = %s AND NOT target = ANY(%s)"
    " AND phase IN ('Filling', 'Ready')"
)
_READY = SQL(
    "UPDATE {targets} t SET phase = 'Ready', filled_at = pg_catalog.clock_timestamp()"
    " WHERE t.target = %s AND t.phase = 'Filling'"
    " AND NOT EXISTS (SELECT FROM {states} s WHERE s.target = t.target AND s.state = 'pending')"
)
_LOCK = SQL("SELECT phase FROM {targets} WHERE index_uid = %s ORDER BY target FOR UPDATE")
_LEAVE = SQL(
    "UPDATE {targets} SET phase = CASE WHEN target = ANY(%s) THEN 'Ready' ELSE 'Retired' END"
    " WHERE index_uid = %s AND target <> %s AND phase = 'Switched'"
    " AND EXISTS (SELECT FROM {targets} WHERE target = %s AND phase = 'Ready')"
)
_SWITCH = SQL("UPDATE {targets} SET phase = 'Switched' WHERE target = %s AND phase = 'Ready'")
_IS_PENDING = SQL("SELECT EXISTS (SELECT FROM {states} WHERE target = %s AND state = 'pending')")


async def retire_left(connections: Connections, document: IndexDocument) -> None:
    """Retire targets that an earlier document began to fill and this one does not name.

    Raises:
        DatabaseError: nothing was changed.
    """
    async with connections.transaction() as connection:
        await connection.execute(_statement(_RETIRE, document), (document.uid, _wanted(document)))


async def make_ready(connections: Connections, document: IndexDocument, target: str) -> bool:
    """Make a target ready if no row of it is pending, and switch to it if it is the document's.

    True where no row is pending. One transaction leaves the old target and switches to the new:
    no search sees both or none.

    Raises:
        DatabaseError: nothing was changed.
    """
    wanted, uid = document.target_id(document.target), document.uid
    async with connections.transaction() as connection:
        await connection.execute(_statement(_LOCK, document), (uid,))
        await connection.execute(_statement(_READY, document), (target,))
        if await is_pending(connection, document, target):
            return False
        if target == wanted:
            values = (_wanted(document), uid, target, target)
            await connection.execute(_statement(_LEAVE, document), values)
            await connection.execute(_statement(_SWITCH, document), (target,))
    return True


async def is_pending(connection: Connection, document: IndexDocument, target: str) -> bool:
    """True if a row of a target waits for its vector.

    Raises:
        psycopg.Error: as the connection's statements do.
    """
    ran = await connection.execute(_statement(_IS_PENDING, document), (target,))
    row = await ran.fetchone()
    return bool(row and row[0])


def _wanted(document: IndexDocument) -> list[str]:
    return [document.target_id(it) for it in statements.targets_of(document)]


def _statement(text: SQL, document: IndexDocument) -> Composed:
    return text.format(
        targets=doubled(Identifier(document.schema, bookkeeping.TARGET)),
        states=doubled(Identifier(document.schema, bookkeeping.STATE)),
    )
