"""What is known of the providers, which outlives an edit of the policy.

A provider is the same after an edit where scope, name, type and address are: then its breaker, its
keys, and what its answers have taught go on. What is known of a model goes when that changes, and
what is known of a key when the key does.
"""

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple

from embedding_contract import document
from embedding_sidecar.engine import api_keys, breaker
from embedding_sidecar.engine.learned_limits import Learned

FORGET_SECONDS: Final = 600.0
"""How long it is believed that a server ignores `dimensions`, or refuses `encoding_format`."""


class _OwnSize(NamedTuple):
    """Of a model whose server ignores `dimensions`: its numbers, 0 where unknown; until when."""

    numbers: int
    until: float


class ProviderStates:
    """Of each provider, by its name in the policy in force."""

    def __init__(self) -> None:
        self.breaker = breaker.Breaker()
        self.refused: dict[str, float] = {}
        """Providers that refuse the key in force, and until when it is not tried again."""
        self._learned: dict[str, Learned] = {}
        self._plain: dict[str, float] = {}
        self._own_sizes: dict[str, _OwnSize] = {}
        self._ring = api_keys.Ring()
        self._holders: dict[str, Hashable] = {}
        self._models: dict[str, str] = {}
        self._keys: Mapping[str, api_keys.ApiKey] = {}

    def follow(
        self, policy: document.PolicyDocument, keys: Mapping[str, str], *, now: float
    ) -> Mapping[str, api_keys.ApiKey]:
        """The keys in force under this policy, by name, of those that are usable.

        What is known of others than its providers is forgotten.
        """
        before, models_before = self._holders, self._models
        self._holders = {
            it.name: (policy.scope, it.name, it.kind, it.base_url) for it in policy.providers
        }
        self._models = {it.name: it.model for it in policy.providers}
        for name in before.keys() | self._holders.keys():
            if before.get(name) != self._holders.get(name):
                self._forget(name)
            elif models_before.get(name) != self._models.get(name):
                self._forget_model(name)
        turned = self._ring.turn(
            {self._holders[name]: key for name, key in keys.items()},
            refused={before[name] for name in self.refused if name in before},
            now=now,
        )
        found = {name: turned[self._holders[name]] for name in keys}
        for name in self._holders:
            if _current(self._keys.get(name)) != _current(found.get(name)):
                self.refused.pop(name, None)
                self.breaker.key_changed(name)
        self._keys = found
        return found

    def learned(self, name: str) -> Learned:
        """What its answers have taught of what it takes at once."""
        found = self._learned.get(name)
        if found is None:
            found = self._learned[name] = Learned()
        return found

    def has_learned(self, name: str) -> bool:
        """Whether there is such a limit."""
        found = self._learned.get(name)
        return found is not None and found.anything

    def is_slow(self, name: str) -> bool:
        """Whether it ran out of time lately, so that its parts go one after the other."""
        found = self._learned.get(name)
        return found is not None and found.is_slow()

    def may_be_plain(self, name: str) -> bool:
        """Whether it has refused `encoding_format`, perhaps long ago."""
        return name in self._plain

    def is_plain(self, name: str, *, now: float) -> bool:
        """Whether it refuses `encoding_format`."""
        if name not in self._plain:
            return False
        if now < self._plain[name]:
            return True
        del self._plain[name]
        return False

    def takes_no_encoding(self, name: str, *, now: float) -> None:
        """It answered without `encoding_format` what it had refused with it."""
        self._plain[name] = now + FORGET_SECONDS

    def ignores_dimensions(self, name: str, numbers: int, *, now: float) -> None:
        """It answered in vectors of its own size, where another one was asked for."""
        self._own_sizes[name] = _OwnSize(numbers, now + FORGET_SECONDS)

    def own_size(self, name: str, *, now: float) -> int | None:
        """The size of the vectors it makes whatever is asked for, 0 where unknown; None: it heeds.

        That is said of it for FORGET_SECONDS.
        """
        found = self._own_sizes.get(name)
        if found is None:
            return None
        if now >= found.until:
            del self._own_sizes[name]
            return None
        return found.numbers

    def _forget(self, name: str) -> None:
        self.breaker.forget(name)
        self.refused.pop(name, None)
        self._plain.pop(name, None)
        self._forget_model(name)

    def _forget_model(self, name: str) -> None:
        self._learned.pop(name, None)
        self._own_sizes.pop(name, None)


def _current(key: api_keys.ApiKey | None) -> str | None:
    return None if key is None else key.current
