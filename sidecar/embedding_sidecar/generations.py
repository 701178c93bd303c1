"""Generations: how a whole cache is emptied at once, in every pod.

Every key holds the generation of its policy and that of its model. Clearing sets a new one, so that
nobody finds the old entries, also those that a request under way is about to write; they expire by
themselves. A generation is a random value: a counter would return to an old value, and old entries
with it, when its store forgets. That is also why the policy's own is made where it is missing: it
lies in one key with those of the models, so a store that evicts one loses all.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from embedding_sidecar import errors

WHOLE: Final = ""
"""The name under which the policy's own generation is kept beside those of its models."""


class Store(Protocol):
    """Where the pods of a policy find their generations. Both raise errors.StoreAway."""

    async def generations(self) -> dict[str, str]:
        """All there are, by model, the policy's own under WHOLE."""
        ...

    async def set_generation(self, name: str, value: str, *, only_if_missing: bool) -> None:
        """Set one."""
        ...


def fresh() -> str:
    """A new generation, unlike any other."""
    return secrets.token_hex(8)


class Generations:
    """The generations this sidecar obeys.

    `forget` is called with a model, or None for all, when its entries have been cleared, by whoever
    it was: what memory holds of them is of no use any more.
    """

    def __init__(
        self,
        *,
        store: Store | None,
        forget: Callable[[str | None], None],
        make: Callable[[], str] = fresh,
    ) -> None:
        self._store = store
        self._forget = forget
        self._make = make
        # A poll that read before a clear must not be obeyed after it.
        self._lock = asyncio.Lock()
        self._values: Mapping[str, str] = {WHOLE: make()}

    def of(self, model: str) -> str:
        """The generation of a model's keys: the policy's, and its own where it was ever cleared."""
        return f"{self._values[WHOLE]}.{self._values.get(model, '')}"

    async def refresh(self) -> None:
        """Obey what the store holds; without one there is nothing to do.

        Raises:
            errors.StoreAway: the last known generations stay in force.
        """
        if self._store is None:
            return
        async with self._lock:
            await self._refresh(self._store)

    async def _refresh(self, store: Store) -> None:
        values = await store.generations()
        if WHOLE not in values:
            # Not the last known one: those of the models may have been lost with it.
            await store.set_generation(WHOLE, self._make(), only_if_missing=True)
            values = await store.generations()
        self._obey(values)

    async def clear(self, model: str | None) -> None:
        """Give the policy, or one model, a new generation.

        Raises:
            errors.Unavailable: the other pods could not be told; nothing is cleared here either.
        """
        async with self._lock:
            await self._clear(WHOLE if model is None else model)

    async def _clear(self, name: str) -> None:
        value = self._make()
        if self._store is not None:
            try:
                await self._store.set_generation(name, value, only_if_missing=False)
            except errors.StoreAway:
                raise errors.Unavailable(
                    "The cache was not cleared: its Redis does not answer, "
                    "so other pods would go on with the old entries.",
                    code="cache_store_unavailable",
                ) from None
        self._obey({**self._values, name: value})

    def _obey(self, values: Mapping[str, str]) -> None:
        if WHOLE not in values:
            return
        before, self._values = self._values, dict(values)
        if before[WHOLE] != values[WHOLE]:
            self._forget(None)
            return
        for model in before.keys() | values.keys():
            if before.get(model) != values.get(model):
                self._forget(model)
