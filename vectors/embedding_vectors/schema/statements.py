"""The statements that a plan consists of. All names in them are quoted by psycopg."""

from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from embedding_contract.index_document import IndexDocument, Target
from embedding_vectors.database import bookkeeping
from embedding_vectors.database.facts import Extension, TargetRow
from embedding_vectors.schema import expressions
from embedding_vectors.schema.expressions import EMBEDDING_COLUMN, Source

VECTOR_MOST: Final = 2_000
HALFVEC_MOST: Final = 4_000
"""The most dimensions that an HNSW index takes, by type (pgvector's README, HNSW)."""


def targets_of(document: IndexDocument) -> tuple[Target, ...]:
    """The targets that the document wants filled."""
    return tuple(it for it in (document.target, document.failover_target) if it is not None)


def type_name(dimensions: int) -> str:
    """The type of a target's vectors."""
    return f"{base_type(dimensions)}({dimensions})"


def base_type(dimensions: int) -> str:
    """`vector` where an index takes it, else `halfvec`."""
    return "vector" if dimensions <= VECTOR_MOST else "halfvec"


def operator_class(dimensions: int) -> str:
    """The operator class of cosine distance."""
    return f"{base_type(dimensions)}_cosine_ops"


def vector_type(extension: Extension, dimensions: int) -> Composed:
    """The type with the schema of the extension, which need not be on the search path."""
    return SQL("{}({})").format(
        Identifier(extension.schema, base_type(dimensions)), Literal(dimensions)
    )


def target_table(schema: str) -> tuple[Composed, ...]:
    """The table of targets."""
    table = Identifier(schema, bookkeeping.TARGET)
    return (
        SQL(
            "CREATE TABLE {} (target text PRIMARY KEY, index_uid text NOT NULL,"
            " index_name text NOT NULL, model text NOT NULL, dimensions integer NOT NULL,"
            " space text NOT NULL, target_column text, target_table text,"
            " request_dimensions boolean NOT NULL DEFAULT false,"
            " phase text NOT NULL DEFAULT 'Filling'"
            " CHECK (phase IN ('Filling', 'Ready', 'Switched', 'Retired')),"
            " rows bigint NOT NULL DEFAULT 0, done bigint NOT NULL DEFAULT 0,"
            " parked bigint NOT NULL DEFAULT 0,"
            " counted_at timestamptz NOT NULL DEFAULT now(), filled_at timestamptz)"
        ).format(table),
        SQL(
            "CREATE UNIQUE INDEX embedding_target_switched ON {} (index_uid)"
            " WHERE phase = 'Switched'"
        ).format(table),
    )


def state_table(schema: str) -> tuple[Composed, ...]:
    """The table of rows. `counted` is the state that the target's counts include the row with."""
    table = Identifier(schema, bookkeeping.STATE)
    return (
        SQL(
            "CREATE TABLE {} (target text NOT NULL, key text NOT NULL, text_hash bytea,"
            " state text NOT NULL CHECK (state IN ('pending', 'done', 'parked', 'deleted')),"
            " counted text, lease_owner text, lease_until timestamptz,"
            " attempts smallint NOT NULL DEFAULT 0, reason text, PRIMARY KEY (target, key))"
        ).format(table),
        SQL(
            "CREATE INDEX embedding_state_pending ON {} (target, key) WHERE state = 'pending'"
        ).format(table),
        SQL(
            "CREATE INDEX embedding_state_uncounted ON {} (target, key)"
            " WHERE state IS DISTINCT FROM counted"
        ).format(table),
    )


def minute_table(schema: str) -> tuple[Composed, ...]:
    """The table of requests in each minute."""
    return (
        SQL(
            "CREATE TABLE {} (index_uid text NOT NULL, minute timestamptz NOT NULL,"
            " requests integer NOT NULL, PRIMARY KEY (index_uid, minute))"
        ).format(Identifier(schema, bookkeeping.MINUTE)),
    )


def add_column(document: IndexDocument, column: str, type_sql: Composable) -> Composed:
    """The vector column; without a default it is added at once, whatever the table's size."""
    return SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
        Identifier(document.schema, document.table), Identifier(column), type_sql
    )


def side_table(
    rows: Source, table: str, type_sql: Composable, *, references: bool
) -> tuple[Composed, ...]:
    """A side table; its rows go with those of the table where it may refer to them."""
    names = SQL(", ").join(Identifier(key.name) for key in rows.keys)
    columns = SQL(", ").join(
        SQL("{} {} NOT NULL").format(Identifier(key.name), SQL(key.type)) for key in rows.keys
    )
    foreign: Composable = SQL("")
    if references:
        foreign = SQL(", FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE CASCADE").format(
            names, Identifier(rows.schema, rows.table), names
        )
    return (
        SQL("CREATE TABLE {} ({}, {} {} NOT NULL, PRIMARY KEY ({}){})").format(
            Identifier(rows.schema, table),
            columns,
            Identifier(EMBEDDING_COLUMN),
            type_sql,
            names,
            foreign,
        ),
    )


def register(document: IndexDocument, target: Target) -> Composed:
    """Adds the target's row; an existing one stays, and the next look at it decides."""
    return SQL(
        "INSERT INTO {} (target, index_uid, index_name, model, dimensions, space, target_column,"
        " target_table, request_dimensions) VALUES ({}) ON CONFLICT (target) DO NOTHING"
    ).format(
        Identifier(document.schema, bookkeeping.TARGET),
        SQL(", ").join(
            Literal(it)
            for it in (
                document.target_id(target),
                document.uid,
                owner_name(document),
                target.model,
                target.dimensions,
                target.space,
                target.column,
                target.table,
                target.request_dimensions,
            )
        ),
    )


def adopt(document: IndexDocument, target: Target) -> Composed:
    """Takes over a target of an index of this name: a retired one, or one of a deleted index."""
    return SQL(
        "UPDATE {} SET index_uid = {}, phase = CASE WHEN phase = 'Retired' THEN 'Filling'"
        " ELSE phase END, request_dimensions = {} WHERE target = {} AND index_name = {}"
    ).format(
        Identifier(document.schema, bookkeeping.TARGET),
        Literal(document.uid),
        Literal(target.request_dimensions),
        Literal(document.target_id(target)),
        Literal(owner_name(document)),
    )


def owner_name(document: IndexDocument) -> str:
    """The name of an index in embedding_target."""
    return f"{document.namespace}/{document.name}"


def create_vector_index(
    schema: str, *, name: str, table: str, column: str, extension: Extension, dimensions: int
) -> Composed:
    """HNSW for cosine distance, built while the table is written."""
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw ({} {})").format(
        Identifier(name),
        Identifier(schema, table),
        Identifier(column),
        Identifier(extension.schema, operator_class(dimensions)),
    )


def create_text_index(document: IndexDocument, *, name: str, configuration: str) -> Composed:
    """GIN over the texts, built while the table is written."""
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} USING gin ({})").format(
        Identifier(name),
        Identifier(document.schema, document.table),
        expressions.text_vector(document, configuration=configuration),
    )


def drop_index(schema: str, name: str) -> Composed:
    """Drops an index that an interrupted build left."""
    return SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(Identifier(schema, name))


def drop_target(document: IndexDocument, row: TargetRow) -> tuple[Composed, ...]:
    """Drops a retired target's vectors and its row; its states were deleted before."""
    if row.column is not None:
        vectors = SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(
            Identifier(document.schema, document.table), Identifier(row.column)
        )
    else:
        vectors = SQL("DROP TABLE IF EXISTS {}").format(
            Identifier(document.schema, row.table or "")
        )
    return (
        vectors,
        SQL("DELETE FROM {} WHERE target = {} AND phase = 'Retired'").format(
            Identifier(document.schema, bookkeeping.TARGET), Literal(row.id)
        ),
    )


def forget_states(document: IndexDocument, target: str, *, most: int) -> Composed:
    """Deletes at most `most` states of a target."""
    table = Identifier(document.schema, bookkeeping.STATE)
    return SQL(
        "DELETE FROM {} WHERE target = {}"
        " AND key IN (SELECT key FROM {} WHERE target = {} LIMIT {})"
    ).format(table, Literal(target), table, Literal(target), Literal(most))
