"""Migrating and verifying: read, decide, write with check-and-set.

What is between two calls is lost with the process, and the next run finds it again.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from embedding_operator import errors
from embedding_operator.migration import kv, plan
from embedding_operator.migration.plan import Plan, Step
from embedding_operator.migration.refusal import Refused
from embedding_operator.migration.sources import Source
from embedding_operator.migration.target import Target

ATTEMPTS: Final = 20
"""Races that may be lost in a row; in each of them another writer has won."""


class Store(Protocol):
    """A KV engine."""

    def read(self, where: Target) -> kv.Held:
        """All that a path holds."""
        ...

    def write(self, where: Target, content: Mapping[str, object], *, version: int) -> None:
        """A new version of a path whose newest one is still `version`."""
        ...


class Names(Protocol):
    """A KV engine that is asked for no values."""

    def names(self, where: Target) -> frozenset[str]:
        """The keys of a path."""
        ...


def migrate(
    store: Store,
    where: Target,
    source: Source,
    *,
    keys: Iterable[str] | None,
    overwrite: bool,
    dry_run: bool,
) -> Plan:
    """Bring keys of a source to a path; what was done.

    Raises:
        Refused: the engine has no check-and-set, or refuses the content.
        errors.Denied, errors.Unavailable: Vault refuses, or is away.
    """
    if where.version == 1:
        raise Refused(
            f"{where.mount} is KV version 1, which has no check-and-set: what somebody else writes"
            f" meanwhile would be lost; `vault kv enable-versioning {where.mount}` makes it version"
            " 2"
        )
    chosen = tuple(source.values if keys is None else keys)
    for _ in range(ATTEMPTS):
        held = store.read(where)
        decided = plan.migration(source.values, held.values, keys=chosen, overwrite=overwrite)
        if decided.content is None or dry_run:
            return decided
        try:
            store.write(where, decided.content, version=held.version)
        except kv.BadRequestError:
            # A lost race has moved the version; anything else will be refused again.
            if store.read(where).version == held.version:
                raise
        else:
            return decided
    raise errors.Unavailable(f"others keep writing {where}; nothing of theirs was lost")


def verify(
    store: Store, where: Target, source: Source, *, keys: Iterable[str] | None
) -> tuple[Step, ...]:
    """Compare both sides: these keys, or all that either has."""
    held = store.read(where).values
    chosen = dict.fromkeys([*source.values, *held]) if keys is None else keys
    return plan.comparison(source.values, held, keys=chosen)


def verify_names(
    store: Names, where: Target, source: Source, *, keys: Iterable[str] | None
) -> tuple[Step, ...]:
    """As `verify`, but no value is read from Vault."""
    held = store.names(where)
    chosen = dict.fromkeys([*source.values, *sorted(held)]) if keys is None else keys
    return plan.comparison_of_names(source.values, held, keys=chosen)
