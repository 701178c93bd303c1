"""Bounds the connections of a listener, and chooses the one to close for a new one.

Each connection holds a descriptor and some memory, and any client that reaches the port can open
one. A new connection is always accepted: at the bound another one is closed, of the address that
has the most, and of those the one whose next request has been awaited longest. So a flood from a
few addresses closes only its own connections, and a probe of kubelet always gets one.
"""

from collections.abc import Collection
from typing import Protocol


class Held(Protocol):
    """A connection: its client's address, and the deadline for its next request."""

    address: str
    due: float
    """In the loop's time."""

    @property
    def is_answering(self) -> bool:
        """True if a request is under way."""

    def drop(self) -> None:
        """Close it at once."""

    def refuse_connection(self) -> None:
        """Respond that there are too many connections, and close it."""


class ConnectionLimit:
    """The connections of one listener; `per_address` None sets no bound for one address.

    With `spares_answering` a connection with a request under way is never closed: if all have one,
    the new connection is refused.
    """

    def __init__(
        self, total: int, *, per_address: int | None = None, spares_answering: bool = False
    ) -> None:
        self._total = total
        self._per_address = total if per_address is None else min(per_address, total)
        self._spares_answering = spares_answering
        self._count = 0
        self._held: dict[str, dict[Held, None]] = {}
        """By address, in the order in which they connected."""

    def __len__(self) -> int:
        return self._count

    def enter(self, new: Held) -> None:
        """Count a new connection, and close one if that exceeds a bound."""
        same = self._held.setdefault(new.address, {})
        same[new] = None
        self._count += 1
        if len(same) > self._per_address:
            self._evict(same, new)
        elif self._count > self._total:
            self._evict(max(self._held.values(), key=len), new)

    def leave(self, gone: Held) -> None:
        """Stop counting a connection; a second call changes nothing."""
        same = self._held.get(gone.address, {})
        if gone in same:
            del same[gone]
            self._count -= 1
            if not same:
                del self._held[gone.address]

    def _evict(self, among: Collection[Held], new: Held) -> None:
        others = [it for it in among if it is not new]
        waiting = [it for it in others if not it.is_answering]
        if waiting:
            goes = min(waiting, key=lambda it: it.due)
        elif others and not self._spares_answering:
            goes = others[0]
        else:
            self.leave(new)
            new.refuse_connection()
            return
        self.leave(goes)
        goes.drop()
