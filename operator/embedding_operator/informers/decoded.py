"""The pods that reconciles have read last, decoded.

Policies of one namespace read all of its pods one after the other, and to decode them was most of
the operator's work after an edit. A nudge changes nothing that is stored of a pod.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from embedding_operator.informers.kept import Kept

DECODED_BYTES: Final = 8 * 1024**2
"""The bound for the JSON of what is held decoded, which itself takes some ten times as much."""


class Decoded:
    """Values by their JSON, at most `most_bytes` of it; safe to use from any thread.

    The values are shared: nobody may change them.
    """

    def __init__(self, *, most_bytes: int = DECODED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, Mapping[str, Any]] = OrderedDict()
        """The one that was read last is last."""
        self._held_bytes = 0

    def of(self, objects: Iterable[Kept]) -> list[Mapping[str, Any]]:
        """The stored part of each object."""
        with self._lock:
            return [self._of(it) for it in objects]

    def _of(self, kept: Kept) -> Mapping[str, Any]:
        content = kept.content or b""
        found = self._values.get(content)
        if found is not None:
            self._values.move_to_end(content)
            return found
        made = self._values[content] = kept.value()
        self._held_bytes += len(content)
        while self._held_bytes > self._most_bytes:
            left, _ = self._values.popitem(last=False)
            self._held_bytes -= len(left)
        return made
