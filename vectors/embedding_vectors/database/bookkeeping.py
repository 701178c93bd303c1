"""The table embedding_target: which index owns which target, its phase, and its counts."""

from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from embedding_vectors.database.connections import Connection
from embedding_vectors.database.facts import TargetRow

TARGET: Final = "embedding_target"
STATE: Final = "embedding_state"
MINUTE: Final = "embedding_minute"
TABLES: Final = (TARGET, STATE, MINUTE)

_TARGETS: Final = sql.SQL(
    "SELECT target, index_uid, index_name, model, dimensions, space, phase, target_column,"
    " target_table, request_dimensions, rows, done, parked FROM {table} ORDER BY target"
)


async def targets(connection: Connection, *, schema: str) -> tuple[TargetRow, ...]:
    """All targets that the schema knows, of every index."""
    ran = await connection.execute(_TARGETS.format(table=sql.Identifier(schema, TARGET)))
    return tuple(_target(row) for row in await ran.fetchall())


def _target(row: Sequence[Any]) -> TargetRow:
    return TargetRow(
        id=row[0],
        index_uid=row[1],
        index_name=row[2],
        model=row[3],
        dimensions=row[4],
        space=row[5],
        phase=row[6],
        column=row[7],
        table=row[8],
        request_dimensions=row[9],
        rows=row[10],
        done=row[11],
        parked=row[12],
    )
