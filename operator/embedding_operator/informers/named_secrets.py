"""Changes of the Secrets that policies, indexes and provider classes name.

A watch of metadata for all namespaces, or one for each. Secrets that nobody names are dropped while
decoding, and none is stored: a reconcile reads the Secret by its name, and again when `token` has
changed.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from embedding_operator.informers import objects
from embedding_operator.informers.pages import Pages
from embedding_operator.informers.store import Store
from embedding_operator.kube.kinds import ObjectKey


class Readers(NamedTuple):
    """A store of objects that name Secrets: of their own namespace, or of `of_namespace`."""

    store: Store
    queue: Callable[[ObjectKey], None]
    of_namespace: str | None = None

    def naming(self, secret: ObjectKey) -> list[ObjectKey]:
        """The objects that name a Secret."""
        if self.of_namespace is None:
            found = self.store.of(secret.namespace)
        else:
            found = self.store.all() if secret.namespace == self.of_namespace else []
        return [it.key for it in found if secret.name in it.reads]


class NamedSecrets:
    """Queues the objects that name a changed Secret."""

    def __init__(self, pages: Pages, readers: Iterable[Readers]) -> None:
        self._pages: Final = pages
        self._readers: Final = tuple(readers)
        self._restarts = 0
        self._changes: Final[dict[ObjectKey, int]] = {}
        """Events of each Secret that a token was asked for."""

    def token(self, namespace: str, name: str) -> tuple[int, int]:
        """Another value after each change of a Secret that the watch has shown, or may have missed.

        The first call has the Secret's events counted.
        """
        return self._restarts, self._changes.setdefault(ObjectKey(namespace, name), 0)

    def restart(self, scope: str | None = None) -> str:
        """The version to begin a new watch with, of one namespace or of all.

        Every reader is queued, as earlier changes were not seen.
        """
        version = self._pages.version(scope)
        self._restarts += 1
        for readers in self._readers:
            for found in readers.store.all():
                if found.reads and (scope is None or found.namespace == scope):
                    readers.queue(found.key)
        return version

    def told(self, _: str, raw: msgspec.Raw) -> None:
        """Handle an event of the watch; msgspec.MsgspecError for an object of another form."""
        secret = objects.nothing(raw).key
        if secret in self._changes:
            self._changes[secret] += 1
        for readers in self._readers:
            for key in readers.naming(secret):
                readers.queue(key)
