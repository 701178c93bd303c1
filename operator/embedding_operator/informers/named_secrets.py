"""The Secrets that policies and indexes name, of which only news is wanted.

One watch, as metadata, of all namespaces; what nobody names is dropped as it is decoded, and
nothing is kept: a reconcile reads the Secret by its name.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from embedding_operator.informers import objects
from embedding_operator.informers.kept import Kept
from embedding_operator.informers.pages import Pages
from embedding_operator.informers.store import Store
from embedding_operator.queues.workqueue import Key

Queue = Callable[[Key], None]


class NamedSecrets:
    """Queues the policies and indexes that name a changed Secret.

    `readers` are stores of what names Secrets, each with where it is queued.
    """

    def __init__(self, pages: Pages, readers: Iterable[tuple[Store, Queue]]) -> None:
        self._pages: Final = pages
        self._readers: Final = tuple(readers)

    def restart(self) -> str:
        """The version that a new watch is to begin with.

        All that name Secrets are queued: changes until now were not seen.
        """
        version = self._pages.version()
        for store, queue in self._readers:
            for found in store.all():
                if found.reads:
                    queue(_key(found))
        return version

    def told(self, _: str, raw: msgspec.Raw) -> None:
        """Take an event of the watch; msgspec.MsgspecError where its object is not of the form."""
        secret = objects.nothing(raw)
        for store, queue in self._readers:
            for found in store.of(secret.namespace):
                if secret.name in found.reads:
                    queue(_key(found))


def _key(found: Kept) -> Key:
    return Key(found.namespace, found.name)
