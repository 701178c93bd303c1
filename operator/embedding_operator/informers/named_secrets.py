"""Changes of the Secrets that policies and indexes name.

One watch of metadata for all namespaces. Secrets that nobody names are dropped while decoding, and
none is stored: a reconcile reads the Secret by its name.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from embedding_operator.informers import objects
from embedding_operator.informers.pages import Pages
from embedding_operator.informers.store import Store
from embedding_operator.kube.kinds import ObjectKey

Queue = Callable[[ObjectKey], None]


class NamedSecrets:
    """Queues the policies and indexes that name a changed Secret.

    `readers` are the stores of objects that name Secrets, each with its queue.
    """

    def __init__(self, pages: Pages, readers: Iterable[tuple[Store, Queue]]) -> None:
        self._pages: Final = pages
        self._readers: Final = tuple(readers)

    def restart(self) -> str:
        """The version to begin a new watch with.

        Every reader is queued, as earlier changes were not seen.
        """
        version = self._pages.version()
        for store, queue in self._readers:
            for found in store.all():
                if found.reads:
                    queue(found.key)
        return version

    def told(self, _: str, raw: msgspec.Raw) -> None:
        """Handle an event of the watch; msgspec.MsgspecError for an object of another form."""
        secret = objects.nothing(raw)
        for store, queue in self._readers:
            for found in store.of(secret.namespace):
                if secret.name in found.reads:
                    queue(found.key)
