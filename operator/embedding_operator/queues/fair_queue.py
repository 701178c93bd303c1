"""A queue that takes keys from one namespace after the other."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Namespaced(Hashable, Protocol):
    """A key that belongs to a namespace."""

    @property
    def namespace(self) -> str:
        """Its namespace."""


K = TypeVar("K", bound=Namespaced)


class FairQueue(Generic[K]):
    """Keys in order of arrival, each once, round robin over namespaces.

    A namespace that adds a thousand keys delays another one by a single key.
    """

    def __init__(self) -> None:
        # In round-robin order: a namespace is put at the end when a key of it is taken.
        self._waiting: dict[str, OrderedDict[K, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, key: K) -> None:
        """Add a key behind the others of its namespace."""
        self._waiting.setdefault(key.namespace, OrderedDict())[key] = None

    def discard(self, key: K) -> None:
        """Remove a key, if it waits."""
        keys = self._waiting.get(key.namespace)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._waiting[key.namespace]

    def pop(self, may: Callable[[str], bool]) -> K | None:
        """Take the next key of a namespace for which `may` is true; None if there is none."""
        for namespace in self._waiting:
            if may(namespace):
                keys = self._waiting.pop(namespace)
                key, _ = keys.popitem(last=False)
                if keys:
                    self._waiting[namespace] = keys
                return key
        return None
