"""The changes of objects that the watches have shown, for reads that need not be repeated."""

from collections.abc import Callable, Mapping
from typing import Final

from embedding_operator.informers.named_secrets import NamedSecrets
from embedding_operator.informers.sources import NAMED_SECRETS
from embedding_operator.informers.store import Store
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Kind


class WatchedChanges:
    """The changes of owned objects and of named Secrets, by kube.current_reads.Changes.

    `stores` hold what was seen of owned objects. `hears` tells of a watch, by its name, if its
    events arrive.
    """

    def __init__(
        self, *, stores: Mapping[Kind, Store], named: NamedSecrets, hears: Callable[[str], bool]
    ) -> None:
        self._stores: Final = stores
        self._named: Final = named
        self._hears: Final = hears

    def token(self, kind: Kind, namespace: str | None, name: str) -> object:
        """The version of an owned object; the events of another Secret; else None."""
        if namespace is None:
            return None
        store = self._stores.get(kind)
        kept = None if store is None else store.kept(namespace, name)
        if kept is not None:
            return kept.version if self._hears(kind.plural) else None
        if kind == kinds.SECRET and self._hears(NAMED_SECRETS.name):
            return self._named.token(namespace, name)
        return None

    def shows_none(self, kind: Kind, namespace: str, name: str) -> bool:
        """True if the watch of our objects runs and shows none of this name."""
        store = self._stores.get(kind)
        return (
            store is not None
            and store.synced
            and store.kept(namespace, name) is None
            and self._hears(kind.plural)
        )
