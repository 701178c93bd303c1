"""Keys that wait, taken from one namespace after the other."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Namespaced(Hashable, Protocol):
    """Work for a namespace."""

    @property
    def namespace(self) -> str:
        """The namespace that has to wait its turn for it."""
        ...


K = TypeVar("K", bound=Namespaced)


class FairQueue(Generic[K]):
    """Keys in the order in which they came, each once, one of each namespace in turn.

    A namespace that adds a thousand keys delays another one by a single key.
    """

    def __init__(self) -> None:
        # In the order of the turns: a namespace that has had its turn is put at the end.
        self._waiting: dict[str, OrderedDict[K, None]] = {}

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
        """Take the next key of a namespace that `may` have one now; None where there is none."""
        for namespace in self._waiting:
            if may(namespace):
                keys = self._waiting.pop(namespace)
                key, _ = keys.popitem(last=False)
                if keys:
                    self._waiting[namespace] = keys
                return key
        return None
