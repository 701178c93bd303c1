"""A provider's API key, and the one before it, for as long as a change may turn out to be wrong."""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field, replace
from typing import Final

PREVIOUS_SECONDS: Final = 600.0
"""How long after a change the key before it is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The key in force, and the previous one until `previous_until`; neither is ever shown.

    `refused` says whether the provider refused the key in force when it was last tried. Times are
    in seconds, by a clock that never goes back.
    """

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_until: float = 0.0
    refused: bool = False

    def fallback(self, *, now: float) -> str | None:
        """The previous key, while it is held."""
        return self.previous if now < self.previous_until else None


class Ring:
    """The keys of all providers across changes, in memory only.

    A key is of a holder: who is asked, and where. It is never sent anywhere else.
    """

    def __init__(self) -> None:
        self._keys: dict[Hashable, ApiKey] = {}

    def turn(
        self, keys: dict[Hashable, str], *, refused: Collection[Hashable] = (), now: float
    ) -> dict[Hashable, ApiKey]:
        """The keys in force from now on, by holder, with those before them.

        `refused` are the holders whose key of before was refused when it was last tried. Such a key
        is no help to the next one: the one before it is held on, or two wrong keys in a row would
        lose the good one.
        """
        self._keys = {
            holder: self._changed(holder, key, now, is_refused=holder in refused)
            for holder, key in keys.items()
        }
        return self._keys

    def _changed(self, holder: Hashable, key: str, now: float, *, is_refused: bool) -> ApiKey:
        before = self._keys.get(holder)
        if before is None:
            return ApiKey(current=key)
        fallback = before.fallback(now=now)
        if before.current == key:
            return replace(before, previous=fallback, refused=is_refused)
        good = fallback if is_refused else before.current
        if good in (None, key):
            return ApiKey(current=key)
        return ApiKey(current=key, previous=good, previous_until=now + PREVIOUS_SECONDS)
