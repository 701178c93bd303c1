"""Reads `Facts` from pg_catalog: names are always parameters, and no row of a table is read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from embedding_vectors.database.connections import Connection
from embedding_vectors.database.facts import (
    Column,
    Extension,
    Facts,
    IndexFacts,
    TableFacts,
    TargetRow,
)

_ROLE = """
SELECT current_user,
       (SELECT pg_catalog.has_schema_privilege(oid, 'USAGE')
          FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s),
       (SELECT pg_catalog.has_schema_privilege(oid, 'CREATE')
          FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s),
       (SELECT pg_catalog.array_agg(p.proname::text)
          FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = %(schema)s AND p.proname LIKE 'embedding%%'),
       (SELECT pg_catalog.array_agg(cfgname::text) FROM pg_catalog.pg_ts_config
         WHERE pg_catalog.pg_ts_config_is_visible(oid))
"""
_EXTENSION = """
SELECT e.extversion, n.nspname, pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector'
"""
_TABLES = """
SELECT c.oid, c.relname, pg_catalog.pg_get_userbyid(c.relowner),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       ARRAY(SELECT it FROM pg_catalog.unnest(
               ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REFERENCES', 'TRIGGER']) it
              WHERE pg_catalog.has_table_privilege(c.oid, it)),
       ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
       EXISTS(SELECT FROM pg_catalog.pg_locks l
               WHERE l.relation = c.oid AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
                 AND l.database = (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = pg_catalog.current_database())
                 AND l.pid <> pg_catalog.pg_backend_pid())
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typcategory::text,
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""
_INDEXES = """
SELECT i.indrelid, c.relname, m.amname, i.indisvalid AND i.indisready, i.indisprimary,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k(number, place)
               LEFT JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = i.indrelid AND a.attnum = k.number
              WHERE k.place <= i.indnkeyatts ORDER BY k.place),
       ARRAY(SELECT o.opcname::text
               FROM pg_catalog.unnest(i.indclass) WITH ORDINALITY k(oid, place)
               JOIN pg_catalog.pg_opclass o ON o.oid = k.oid ORDER BY k.place),
       i.indpred IS NULL
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = c.relam
 WHERE i.indrelid = ANY(%(oids)s)
 ORDER BY i.indrelid, c.relname
"""


async def read(connection: Connection, *, schema: str, tables: Sequence[str]) -> Facts:
    """The facts of the extension, the role, and these tables of one schema.

    `targets` stay empty: the bookkeeping is read where it exists.
    """
    role, uses, creates, functions, configurations = await _one(
        connection, _ROLE, {"schema": schema}
    )
    extension = await _all(connection, _EXTENSION, {})
    found = await _all(connection, _TABLES, {"schema": schema, "tables": list(tables)})
    oids = {"oids": [row[0] for row in found]}
    columns = await _all(connection, _COLUMNS, oids)
    indexes = await _all(connection, _INDEXES, oids)
    return Facts(
        role=role,
        extension=next(
            (Extension(version=it[0], schema=it[1], is_usable=it[2]) for it in extension), None
        ),
        uses_schema=bool(uses),
        creates_in_schema=bool(creates),
        tables=tuple(_table(schema, row, columns, indexes) for row in found),
        functions=frozenset(functions or ()),
        text_configurations=frozenset(configurations or ()),
    )


def with_targets(facts: Facts, targets: tuple[TargetRow, ...]) -> Facts:
    """The facts with the targets of the bookkeeping."""
    return replace(facts, targets=targets)


def _table(
    schema: str, row: Sequence[Any], columns: list[Sequence[Any]], indexes: list[Sequence[Any]]
) -> TableFacts:
    oid, name, owner, is_owned, rights, triggers, is_built = row
    own_columns = [it for it in columns if it[0] == oid]
    own_indexes = [it for it in indexes if it[0] == oid]
    return TableFacts(
        schema=schema,
        name=name,
        columns=tuple(Column(name=it[1], type=it[2], category=it[3]) for it in own_columns),
        primary_key=next((tuple(it[5]) for it in own_indexes if it[4]), ()),
        indexes=tuple(
            IndexFacts(
                name=it[1],
                method=it[2],
                is_valid=it[3],
                columns=tuple(it[5]),
                operator_classes=tuple(it[6]),
            )
            for it in own_indexes
            if it[7]  # searches cannot use a partial index
        ),
        triggers=tuple(triggers),
        owner=owner,
        is_owned=is_owned,
        rights=frozenset(rights),
        updates=frozenset(it[1] for it in own_columns if it[4]),
        is_built=is_built,
    )


async def _all(connection: Connection, statement: str, values: dict[str, Any]) -> list[Any]:
    # The statements above are literals: only parameters vary.
    ran = await connection.execute(statement.encode(), values)
    return await ran.fetchall()


async def _one(connection: Connection, statement: str, values: dict[str, Any]) -> Any:
    (row,) = await _all(connection, statement, values)
    return row
