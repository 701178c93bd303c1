"""Generations: numbers that make older entries stale at once, in every pod.

Every key holds the generation of its policy and that of its model, and where its text was cleared,
that of its text. Clearing sets a new one, so that no look-up finds the old entries, or those that a
request under way is about to write; they expire by themselves. A generation is a random value: a
counter would return to an old value, and old entries with it, when its store forgets. For the same
reason the policy's own is made anew where it is missing: it lies in one place with those of models
and texts, so a store that evicts one loses all.

Other programs may write the store. Where a value cannot be a generation, or there are too many, all
get a new one: cleared entries stay cleared, and the others are bought again. Names of an unknown
form are a later sidecar's, and left alone.

A text's generation is dropped when no entry from before can be left (decision 010).
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol, TypeGuard

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry

WHOLE: Final = ""
"""The name under which the policy's own generation is kept beside those of its models."""
REVISION: Final = "revision "
"""The name of a value that is another one after every change; no model's name has a space."""
MAX_TEXTS: Final = 4096
"""Texts that are remembered as cleared. One more clears all."""
MAX_NAMES: Final = MAX_TEXTS + 1024
"""Texts, and the models of all policies that share a scope; a store with more is not ours."""
_VALUE: Final = re.compile(r"[0-9A-Za-z]{1,32}(@[0-9]{1,12})?")
_MAX_FORGOTTEN: Final = 64
"""Models that are forgotten one by one; where more have changed, all are."""
_TEXT: Final = "text "
_KEPT_SECONDS: Final = cache_entry.MAX_TTL_SECONDS + 86_400
"""A day more than the longest TTL: requests are under way, and clocks differ."""

_log = logging.getLogger(__name__)


class _Store(Protocol):
    """The store that a policy's pods share: RedisGenerations."""

    async def generation(self, *names: str) -> list[str | None]: ...
    async def generations(self) -> dict[str, str] | None: ...
    async def begin(self, values: Mapping[str, str]) -> None: ...
    async def replace(
        self, values: Mapping[str, str], *, dropped: Collection[str] | None
    ) -> None: ...


def fresh() -> str:
    """A new generation, unlike any other."""
    return secrets.token_hex(8)


class Generations:
    """The generations that this sidecar's keys have.

    `forget` is called with a model, or None for all, when any pod has cleared its entries.
    """

    def __init__(
        self,
        *,
        store: _Store | None,
        forget: Callable[[str | None], None],
        make: Callable[[], str] = fresh,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._forget = forget
        self._make = make
        self._clock = clock
        # A poll that has read before a clear must not be applied after it.
        self._lock = asyncio.Lock()
        self.in_force: Mapping[str, str] = {WHOLE: make()}
        """By name; another object as soon as any of them changes, and the keys with it."""
        self._texts: dict[str, Mapping[str, str]] = {}

    def of(self, model: str) -> str:
        """The generation of a model's keys: the policy's, and its own if it was ever cleared."""
        return f"{self.in_force[WHOLE]}.{self.in_force.get(model, '')}"

    def of_texts(self, model: str) -> Mapping[str, str]:
        """The generations of texts cleared for this model, or for all, by name."""
        found = self._texts.get(model)
        if found is None:
            # Not for all models at once: the store may name any number of them.
            found = self._texts[model] = _texts_of(self.in_force, model)
        return found

    async def refresh(self) -> None:
        """Take over the store's generations; the last known ones stay on errors.StoreAway."""
        store = self._store
        if store is None:
            return
        async with self._lock:
            known = [self.in_force.get(name) for name in (WHOLE, REVISION)]
            if None not in known and await store.generation(WHOLE, REVISION) == known:
                return
            values = await self._all(store)
            if WHOLE not in values:
                # Not the last known one: the models' may have been lost with it.
                await store.begin({WHOLE: self._make(), REVISION: self._make()})
                values = await self._all(store)
            self._obey(values)

    async def _all(self, store: _Store) -> dict[str, str]:
        """All generations of the store, which are made anew where some are not ours."""
        values = await store.generations()
        if _can_be(values):
            return values
        _log.warning(
            "cache: generations in Redis were not written by a sidecar, so all entries are "
            "cleared; find out what else writes keys that begin with %s",
            cache_entry.PREFIX.partition(":")[0],
        )
        await store.replace({WHOLE: self._make(), REVISION: self._make()}, dropped=None)
        values = await store.generations()
        if not _can_be(values):
            raise errors.StoreAway("its generations were not written by a sidecar")
        return values

    async def clear(self, model: str | None) -> None:
        """Give the policy, or one model by the policy's name of it, a new generation.

        Raises:
            errors.Unavailable: the other pods cannot be notified; nothing is cleared here either.
        """
        async with self._lock:
            await self._replace({model or WHOLE: self._make()})

    async def clear_texts(self, names: Collection[str], model: str | None) -> None:
        """Give texts, by cache_entry.name, a new generation for one model or for all; as `clear`.

        Where there would be too many of them, the policy gets one.
        """
        value = f"{self._make()}@{int(self._clock())}"
        texts = {f"{_TEXT}{name} {model or WHOLE}": value for name in names}
        async with self._lock:
            await self._replace(texts)

    async def _replace(self, values: Mapping[str, str]) -> None:
        try:
            before = self.in_force if self._store is None else await self._all(self._store)
            dropped = {name for name, value in before.items() if self._is_over(name, value)}
            texts = [name for name in before.keys() | values.keys() if name.startswith(_TEXT)]
            if len(texts) - len(dropped) > MAX_TEXTS or WHOLE not in before:
                values = {WHOLE: self._make()}
            if WHOLE in values:
                dropped = set(before)
            dropped -= values.keys()
            if self._store is not None:
                marked = {**values, REVISION: self._make()}
                await self._store.replace(marked, dropped=dropped - {REVISION})
        except errors.StoreAway as cause:
            raise errors.Unavailable(
                f"The cache was not cleared: its Redis {cause.predicate}, so other pods would "
                "go on with the old entries.",
                code="cache_store_unavailable",
            ) from None
        # Not the new revision: the next refresh is to show what others cleared in between.
        kept = {name: value for name, value in before.items() if name not in dropped}
        self._obey({**kept, **values})

    def _is_over(self, name: str, value: str) -> bool:
        """True if it is a text's, and no entry from before can be left."""
        _, _, since = value.partition("@")
        return (
            name.startswith(_TEXT)
            and since.isdecimal()
            and int(since) + _KEPT_SECONDS < self._clock()
        )

    def _obey(self, values: Mapping[str, str]) -> None:
        if WHOLE not in values:
            return
        before, self.in_force = self.in_force, dict(values)
        self._texts = {}
        if before[WHOLE] != values[WHOLE]:
            self._forget(None)
            return
        models = [
            name
            for name in before.keys() | values.keys()
            if before.get(name) != values.get(name) and " " not in name
        ]
        # Each is a walk through the memory, and the store may name any number of them.
        for model in models if len(models) <= _MAX_FORGOTTEN else (None,):
            self._forget(model)


def _can_be(values: Mapping[str, str] | None) -> TypeGuard[dict[str, str]]:
    return values is not None and all(map(_VALUE.fullmatch, values.values()))


def _texts_of(values: Mapping[str, str], model: str) -> dict[str, str]:
    """The generations of a model's texts; those for all models hold for each."""
    found: dict[str, str] = {}
    # A generation for all models stands before the model's own.
    for owner in dict.fromkeys((WHOLE, model)):
        for name, value in values.items():
            if name.startswith(_TEXT):
                text, _, its_model = name.removeprefix(_TEXT).partition(" ")
                if its_model == owner:
                    found[text] = f"{found[text]}.{value}" if text in found else value
    return found
