"""The objects of one kind as last seen; safe to use from any thread."""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from embedding_operator.informers.kept import Kept, Trim, encode
from embedding_operator.informers.pages import Page
from embedding_operator.kube.kinds import Object, ObjectKey

DELETED: Final = "DELETED"

Changed = Callable[[Kept | None, Kept | None], None]
"""Gets the stored object before and after a change; None for none."""


class Store:
    """Filled by a list and the watch after it; `skipped` counts objects that could not be stored.

    Each read builds a new value, so that readers cannot change each other's. `scopes` are the
    namespaces that are listed apart, None for the whole cluster.
    """

    def __init__(
        self,
        trim: Trim,
        *,
        changed: Changed,
        skipped: Callable[[int], None] = lambda _: None,
        scopes: Iterable[str | None] = (None,),
    ) -> None:
        self._trim = trim
        self._changed = changed
        self._skipped = skipped
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Kept]] = {}
        self._unlisted = set(scopes)
        self._listed = threading.Event()
        self._changes = 0

    # --- read

    def changes(self) -> int:
        """The number of changes that lists and watches have brought so far."""
        return self._changes

    @property
    def synced(self) -> bool:
        """True once the first list of each scope is complete."""
        return self._listed.is_set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it is synced; False after the time-out."""
        return self._listed.wait(timeout_seconds)

    def kept(self, namespace: str, name: str) -> Kept | None:
        """An object, trimmed; None where there is none."""
        with self._lock:
            return self._kept.get(namespace, {}).get(name)

    def get(self, namespace: str, name: str) -> Object | None:
        """The stored part of an object; None if there is none."""
        found = self.kept(namespace, name)
        return None if found is None else found.value()

    def of(self, namespace: str) -> list[Kept]:
        """All objects of a namespace, trimmed."""
        with self._lock:
            return list(self._kept.get(namespace, {}).values())

    def all(self) -> list[Kept]:
        """All objects, trimmed."""
        with self._lock:
            return [it for of_space in self._kept.values() for it in of_space.values()]

    def keys(self) -> list[ObjectKey]:
        """Namespace and name of every object."""
        with self._lock:
            return [ObjectKey(space, name) for space, kept in self._kept.items() for name in kept]

    # --- filled

    def refill(self, pages: Iterable[Page], *, scope: str | None = None) -> str:
        """Replace the content, or that of one namespace, by a list; its version."""
        seen: set[ObjectKey] = set()
        version = ""
        for page in pages:
            version = page.version
            self._skipped(page.skipped)
            for kept in page.kept:
                if kept.content is not None:
                    seen.add(kept.key)
                    self._put(kept, only_newer=False)
        for key in self._keys_of(scope):
            if key not in seen:
                self._remove(key)
        self._list_is_complete(scope)
        return version

    def told(self, event: str, raw: msgspec.Raw) -> None:
        """Handle an event of a watch; raises msgspec.MsgspecError for an object of another form."""
        kept = self._trim(raw)
        if event == DELETED or kept.content is None:
            self._remove(kept.key)
        else:
            self._put(kept, only_newer=True)

    def wrote(self, answer: Object) -> None:
        """Store the answer to a write of our own, unless the watch is newer."""
        kept = self._trim(encode(answer))
        # This must not bring a deleted object back.
        before = self.kept(*kept.key)
        if before is not None and before.uid == kept.uid:
            self._put(kept, only_newer=True)

    def clear(self, *, scope: str | None = None) -> None:
        """Remove all objects, as the kind is not served or not watched."""
        for key in self._keys_of(scope):
            self._remove(key)
        self._list_is_complete(scope)

    def _keys_of(self, scope: str | None) -> list[ObjectKey]:
        return [it for it in self.keys() if scope is None or it.namespace == scope]

    def _list_is_complete(self, scope: str | None) -> None:
        with self._lock:
            self._unlisted.discard(scope)
            if not self._unlisted:
                self._listed.set()

    def _put(self, kept: Kept, *, only_newer: bool) -> None:
        with self._lock:
            of_space = self._kept.setdefault(kept.namespace, {})
            before = of_space.get(kept.name)
            if only_newer and before is not None and _is_older(kept, before):
                return
            of_space[kept.name] = kept
        if before is None or before.about != kept.about:
            self._tell(before, kept)

    def _remove(self, key: ObjectKey) -> None:
        namespace, name = key
        with self._lock:
            before = self._kept.get(namespace, {}).pop(name, None)
            if not self._kept.get(namespace):
                self._kept.pop(namespace, None)
        if before is not None:
            self._tell(before, None)

    def _tell(self, before: Kept | None, after: Kept | None) -> None:
        with self._lock:
            self._changes += 1
        self._changed(before, after)


def _is_older(kept: Kept, before: Kept) -> bool:
    """Compare by resourceVersion, if both are numbers (KEP-5504)."""
    versions = (kept.version, before.version)
    return all(map(str.isdecimal, versions)) and int(kept.version) < int(before.version)
