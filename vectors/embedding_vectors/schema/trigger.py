"""The optional trigger: it marks a changed row as pending at once, and a deleted one as deleted.

It writes embedding_state alone. The worker keeps the counts in embedding_target: there, each
application's transaction would wait for the others'.
"""

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedding_contract.index_document import IndexDocument
from embedding_vectors.database import bookkeeping
from embedding_vectors.schema import expressions, naming

_BODY = SQL("""
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND {old_key} <> {new_key}) THEN
    UPDATE {state} SET state = 'deleted', lease_owner = NULL, lease_until = NULL
     WHERE key = {old_key}
       AND target IN (SELECT it.target FROM {targets} it WHERE it.index_uid = {uid});
  END IF;
  IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ({old_row}) IS DISTINCT FROM ({new_row})) THEN
    INSERT INTO {state} (target, key, state)
    SELECT it.target, {new_key}, 'pending' FROM {targets} it
     WHERE it.index_uid = {uid} AND it.phase <> 'Retired' ORDER BY it.target
    ON CONFLICT (target, key) DO UPDATE
      SET state = 'pending', text_hash = NULL, attempts = 0, reason = NULL,
          lease_owner = NULL, lease_until = NULL;
  END IF;
  RETURN NULL;
END
""")


def name(document: IndexDocument, key: tuple[str, ...]) -> str:
    """The trigger's name, which depends on the columns."""
    return naming.mark(document.uid, form="\0".join(_columns(document, key)))


def create(document: IndexDocument, key: tuple[str, ...]) -> tuple[Composed, ...]:
    """The function, which has its owner's rights, and the trigger."""
    columns, made = _columns(document, key), name(document, key)
    body = _BODY.format(
        state=Identifier(document.schema, bookkeeping.STATE),
        targets=Identifier(document.schema, bookkeeping.TARGET),
        uid=Literal(document.uid),
        old_key=expressions.key_of(key, alias="old"),
        new_key=expressions.key_of(key, alias="new"),
        old_row=SQL(", ").join(Identifier("old", it) for it in columns),
        new_row=SQL(", ").join(Identifier("new", it) for it in columns),
    )
    function = Identifier(document.schema, made)
    return (
        SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        ).format(function, Literal(body.as_string())),
        SQL(
            "CREATE TRIGGER {} AFTER INSERT OR DELETE OR UPDATE OF {} ON {}"
            " FOR EACH ROW EXECUTE FUNCTION {}()"
        ).format(
            Identifier(made),
            SQL(", ").join(Identifier(it) for it in columns),
            Identifier(document.schema, document.table),
            function,
        ),
    )


def drop(document: IndexDocument, old: str) -> tuple[Composed, ...]:
    """Drops a trigger of the same index that is no longer wanted."""
    return (
        SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
            Identifier(old), Identifier(document.schema, document.table)
        ),
        SQL("DROP FUNCTION IF EXISTS {}()").format(Identifier(document.schema, old)),
    )


def _columns(document: IndexDocument, key: tuple[str, ...]) -> tuple[str, ...]:
    conditions = (it.column for it in document.rows)
    return tuple(dict.fromkeys((*key, *document.text_columns, *conditions)))
