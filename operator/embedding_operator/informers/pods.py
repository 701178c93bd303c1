"""The pods of namespaces that have a policy.

A watch covers all namespaces, or one; pods of others are dropped while decoding. The pods that
existed in a namespace before its first policy are listed, by namespace: lists cost only what
policies need, and thousands of pods in one namespace do not delay another. The bytes stored of a
namespace are bounded, as each of its reconciles reads all of them.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from embedding_operator.informers.decoded import Decoded
from embedding_operator.informers.kept import Kept, Trim
from embedding_operator.informers.pages import Pages
from embedding_operator.informers.store import DELETED, Changed

NAMESPACE_BYTES: Final = 8 * 1024**2
"""The bound for the stored pods of a namespace. A usual pod has 1 KiB, the largest POD_BYTES. Other
pods are not stored, nor counted by a policy."""


@dataclass(slots=True)
class _Followed:
    """A namespace; `told` are the pods in events since a list began."""

    kept: dict[str, Kept] = field(default_factory=dict)
    held_bytes: int = 0
    is_listed: bool = False
    told: set[str] | None = None


class Pods:
    """Pods as last seen; safe to use from any thread.

    `list_later` gets each namespace for which another thread must call `fill`.
    """

    def __init__(
        self,
        pages: Pages,
        trim: Trim,
        *,
        list_later: Callable[[str], None],
        changed: Changed,
        skipped: Callable[[int], None],
        scopes: Iterable[str | None] = (None,),
    ) -> None:
        self._pages = pages
        self._trim = trim
        self._list_later = list_later
        self._changed = changed
        self._skipped = skipped
        self._lock = threading.Lock()
        self._followed: dict[str, _Followed] = {}
        self._decoded = Decoded()
        self._unwatched = set(scopes)
        self._watched = threading.Event()

    # --- read

    @property
    def synced(self) -> bool:
        """True once each watch has begun; a namespace is known from its list on."""
        return self._watched.is_set()

    def of(self, namespace: str) -> list[Kept] | None:
        """The pods of a namespace; None until they are listed."""
        with self._lock:
            found = self._followed.get(namespace)
            return list(found.kept.values()) if found is not None and found.is_listed else None

    def values_of(self, namespace: str) -> Sequence[Mapping[str, Any]] | None:
        """The stored parts of a namespace's pods, which callers share and may not change."""
        found = self.of(namespace)
        return None if found is None else self._decoded.of(found)

    # --- filled

    def follow(self, namespace: str) -> None:
        """Begin to store the pods of a namespace."""
        with self._lock:
            if namespace in self._followed:
                return
            self._followed[namespace] = _Followed()
        if self.synced:
            self._list_later(namespace)

    def drop(self, namespace: str) -> None:
        """Stop storing the pods of a namespace."""
        with self._lock:
            self._followed.pop(namespace, None)

    def restart(self, scope: str | None = None) -> str:
        """The version to begin a new watch with; its namespaces are listed again."""
        version = self._pages.version(scope)
        with self._lock:
            self._unwatched.discard(scope)
            is_first = not self._unwatched and not self._watched.is_set()
            if is_first:
                self._watched.set()
            # Those that were followed before all watches had begun are not listed yet.
            namespaces = [it for it in self._followed if is_first or scope in (None, it)]
        for namespace in namespaces:
            self._list_later(namespace)
        return version

    def fill(self, namespace: str) -> bool:
        """List a namespace; False if it is no longer followed.

        Raises:
            errors.OperatorError: it cannot be listed.
        """
        with self._lock:
            found = self._followed.get(namespace)
            if found is None:
                return False
            found.told = told = set[str]()
        try:
            listed = self._list(namespace)
        except Exception:
            with self._lock:
                found.told = None  # else it grows until the next list
            raise
        with self._lock:
            # Events since the list began are newer than the list.
            ahead = {name: it for name, it in found.kept.items() if name in told}
            before = found.kept
            found.kept = {name: it for name, it in listed.items() if name not in told} | ahead
            found.held_bytes = sum(map(_size, found.kept.values()))
            found.is_listed, found.told = True, None
            changes = [
                (before.get(name), found.kept.get(name))
                for name in before.keys() | found.kept.keys()
            ]
        for old, new in changes:
            if (old and old.about) != (new and new.about):
                self._changed(old, new)
        return True

    def _list(self, namespace: str) -> dict[str, Kept]:
        listed: dict[str, Kept] = {}
        listed_bytes = 0
        for page in self._pages.each(namespace):
            skipped = page.skipped
            for it in page.kept:
                if it.content is None:
                    continue
                if listed_bytes + _size(it) > NAMESPACE_BYTES:
                    skipped += 1
                else:
                    listed[it.name] = it
                    listed_bytes += _size(it)
            self._skipped(skipped)
        return listed

    def told(self, event: str, raw: msgspec.Raw) -> None:
        """Handle an event of the watch; msgspec.MsgspecError for an object of another form."""
        kept = self._trim(raw)
        gone = event == DELETED or kept.content is None
        with self._lock:
            found = self._followed.get(kept.namespace)
            if found is None:
                return
            if found.told is not None:
                found.told.add(kept.name)
            before = found.kept.pop(kept.name, None)
            found.held_bytes -= 0 if before is None else _size(before)
            is_too_much = not gone and found.held_bytes + _size(kept) > NAMESPACE_BYTES
            gone = gone or is_too_much
            if not gone:
                found.kept[kept.name] = kept
                found.held_bytes += _size(kept)
        if is_too_much:
            self._skipped(1)
        after = None if gone else kept
        if (before and before.about) != (after and after.about):
            self._changed(before, after)


def _size(kept: Kept) -> int:
    return len(kept.content or b"")
