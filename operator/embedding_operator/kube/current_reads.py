"""Objects read by name, and read again only when a watch has shown a change since.

The API server is asked in all other cases: where no watch would show a change, where the watch does
not run, and where nothing was read yet.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Kind, Object

MOST_BYTES: Final = 65_536
"""Larger objects are read each time: tenants write Secrets of a MiB."""
Get = Callable[[Kind, str | None, str], Object | None]
"""Reads an object of the API server; None where there is none."""
Place = tuple[Kind, str | None, str]
"""Kind, namespace and name of an object."""


class Changes(Protocol):
    """The changes that watches have shown."""

    def token(self, kind: Kind, namespace: str | None, name: str) -> object:
        """Equal to an earlier one as long as no change was seen; None if none would be seen."""

    def shows_none(self, kind: Kind, namespace: str, name: str) -> bool:
        """True if a watch of our objects of this kind shows none of this name."""


class Unwatched:
    """No watch: each read asks the API server."""

    def token(self, kind: Kind, namespace: str | None, name: str) -> object:
        """None, as no change would be seen."""
        _ = kind, namespace, name
        return None

    def shows_none(self, kind: Kind, namespace: str, name: str) -> bool:
        """False, as nothing is known."""
        _ = kind, namespace, name
        return False


class _Remembered(NamedTuple):
    token: object
    body: bytes


class CurrentReads:
    """Reads of one API server; safe to use from any thread.

    An object that is not read in a whole round, which `next_round` ends, is forgotten.
    """

    def __init__(self, get: Get, *, changes: Changes | None = None) -> None:
        self._get: Final = get
        self._changes: Final = changes or Unwatched()
        self._remembered: dict[Place, _Remembered] = {}
        self._of_last_round: dict[Place, _Remembered] = {}
        self._hidden: set[Place] = set()
        """Objects that a watch of ours does not show, though they are there."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object as it is now, as far as its watch tells; None where there is none.

        Each call builds a new value.

        Raises:
            errors.OperatorError: the API server does not answer, or refuses.
        """
        place = kind, namespace, name
        # Before the read: a change during it has another token.
        token = self._changes.token(*place)
        if token is None:
            return self._get(*place)
        known = self._known(place)
        if known is not None and known.token == token:
            self._remembered[place] = known
            found: Object | None = msgspec.json.decode(known.body)
            return found
        live = self._get(*place)
        self._remember(place, token, live)
        return live

    def get_ours(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """An object of ours; None, without a read, where their watch shows none of this name.

        An object of somebody else may have the name: a write finds it, and then calls `reveal`.
        """
        place = kind, namespace, name
        is_hidden = place in self._hidden
        if not is_hidden and self._known(place) is None and self._changes.shows_none(*place):
            return None
        return self.get(*place)

    def reveal(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Read an object of which the watch shows none now, and with each `get_ours` from now on.

        Raises:
            errors.OperatorError: the API server does not answer, or refuses.
        """
        place = kind, namespace, name
        self._hidden.add(place)
        self._forget(place)
        return self._get(*place)

    def get_unwanted(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """An object of ours that is to go: read now, or not at all where the watch shows none."""
        place = kind, namespace, name
        # One that was written a moment ago may not be shown yet.
        if self._known(place) is None and self._changes.shows_none(*place):
            return None
        self._forget(place)
        return self._get(*place)

    def wrote(self, answer: Object) -> None:
        """Remember the answer to a write of our own: its event is no reason to read it again."""
        kind, metadata = kinds.KINDS[answer["kind"]], answer["metadata"]
        if kind in kinds.ECHOING:
            place = kind, metadata["namespace"], metadata["name"]
            self._hidden.discard(place)
            self._remember(place, metadata["resourceVersion"], answer)

    def next_round(self) -> None:
        """Forget what was not read since the call before the last."""
        self._of_last_round, self._remembered = self._remembered, {}
        self._hidden.clear()

    def _remember(self, place: Place, token: object, found: Object | None) -> None:
        body = msgspec.json.encode(found)
        if len(body) <= MOST_BYTES:
            self._remembered[place] = _Remembered(token, body)
        else:
            self._forget(place)

    def _forget(self, place: Place) -> None:
        self._remembered.pop(place, None)
        self._of_last_round.pop(place, None)

    def _known(self, place: Place) -> _Remembered | None:
        return self._remembered.get(place) or self._of_last_round.get(place)
