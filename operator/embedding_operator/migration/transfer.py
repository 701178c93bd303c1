"""Migrating and verifying: read, decide, write with check-and-set.

A run keeps no state: one that is killed between two calls is simply repeated.
"""

from collections.abc import Iterable
from typing import Final

from embedding_operator import errors
from embedding_operator.migration import plan
from embedding_operator.migration.plan import Plan, Step
from embedding_operator.migration.refusal import Refused
from embedding_operator.migration.sources import Source
from embedding_operator.migration.store import BadRequestError, Store
from embedding_operator.migration.target import Target

ATTEMPTS: Final = 20
"""Writes that may be refused in a row because another writer was faster."""


def migrate(
    store: Store,
    where: Target,
    source: Source,
    *,
    keys: Iterable[str] | None,
    overwrite: bool,
    dry_run: bool,
) -> Plan:
    """Copy keys of a source to a path, and return the plan that was carried out.

    Raises:
        Refused: the engine has no check-and-set, or refuses the content.
        errors.Denied, errors.Unavailable: Vault refuses, or is away.
    """
    if where.version == 1:
        raise Refused(
            f"{where.mount} is KV version 1, which has no check-and-set: another writer's change"
            f" could be lost; run `vault kv enable-versioning {where.mount}` first"
        )
    chosen = tuple(source.values if keys is None else keys)
    for _ in range(ATTEMPTS):
        held = store.read(where)
        decided = plan.migration(source.values, held.values or {}, keys=chosen, overwrite=overwrite)
        if decided.content is None or dry_run:
            return decided
        try:
            store.write(where, decided.content, version=held.stamp.version)
        except BadRequestError:
            # A lost race has moved the version; anything else will be refused again.
            if store.read(where).stamp.version == held.stamp.version:
                raise
        else:
            return decided
    raise errors.Unavailable(f"others keep writing {where}; nothing of theirs was lost")


def verify(
    store: Store, where: Target, source: Source, *, keys: Iterable[str] | None
) -> tuple[Step, ...]:
    """Compare both sides: these keys, or all that either has."""
    held = store.read(where).values or {}
    chosen = dict.fromkeys([*source.values, *held]) if keys is None else keys
    return plan.comparison(source.values, held, keys=chosen)


def verify_names(
    store: Store, where: Target, source: Source, *, keys: Iterable[str] | None
) -> tuple[Step, ...]:
    """Compare the names of both sides: no value is read from Vault."""
    held = store.names(where)
    chosen = dict.fromkeys([*source.values, *sorted(held)]) if keys is None else keys
    return plan.comparison_of_names(source.values, held, keys=chosen)
