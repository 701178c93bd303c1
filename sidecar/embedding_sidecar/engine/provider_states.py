"""The state of the providers, which outlives an edit of the policy.

A provider is the same after an edit if scope, name, type and address are: then its breaker, its
keys, and what its answers have taught stay. What is known of a model goes when the model changes,
and what is known of a key when the key changes.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from embedding_contract import document
from embedding_sidecar.engine import breaker
from embedding_sidecar.engine.learned_limits import Learned

PREVIOUS_SECONDS: Final = 600.0
"""How long the previous API key is held after a change, which may turn out to be wrong."""
FORGET_SECONDS: Final = 600.0
"""How long it is believed that a server ignores `dimensions`, or refuses `encoding_format`."""


class _OwnSize(NamedTuple):
    """Of a model whose server ignores `dimensions`: its numbers, 0 where unknown; until when."""

    numbers: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The API key in force, and the previous one until `previous_until`; neither is ever shown.

    Times are in seconds, by a clock that never goes back.
    """

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_until: float = 0.0

    def fallback(self, *, now: float) -> str | None:
        """The previous key, while it is held."""
        return self.previous if now < self.previous_until else None

    def changed(self, current: str, *, is_refused: bool, now: float) -> "ApiKey":
        """The key after an edit of the policy, which may have left it as it is.

        A key that `is_refused` does not replace the previous one: two wrong keys in a row would
        lose the good one.
        """
        if current == self.current:
            return replace(self, previous=self.fallback(now=now))
        good = self.fallback(now=now) if is_refused else self.current
        if good in (None, current):
            return ApiKey(current=current)
        return ApiKey(current=current, previous=good, previous_until=now + PREVIOUS_SECONDS)


class ProviderStates:
    """The state of each provider, by its name in the policy in force."""

    def __init__(self) -> None:
        self.breaker = breaker.Breaker()
        self.refused: dict[str, float] = {}
        """Providers that refuse the key in force, and until when it is not tried again."""
        self._learned: dict[str, Learned] = {}
        self._plain: dict[str, float] = {}
        self._own_sizes: dict[str, _OwnSize] = {}
        self._holders: dict[str, Hashable] = {}
        self._models: dict[str, str] = {}
        self._keys: dict[str, ApiKey] = {}

    def follow(
        self, policy: document.PolicyDocument, keys: Mapping[str, str], *, now: float
    ) -> Mapping[str, ApiKey]:
        """The keys in force under this policy, by name, given those that are usable.

        The state of a provider that the policy no longer has is forgotten: a key is only ever sent
        where it was sent before.
        """
        holders, models = self._holders, self._models
        self._holders = {
            it.name: (policy.scope, it.name, it.kind, it.base_url) for it in policy.providers
        }
        self._models = {it.name: it.model for it in policy.providers}
        for name in holders.keys() | self._holders.keys():
            if holders.get(name) != self._holders.get(name):
                self._forget(name)
            elif models.get(name) != self._models.get(name):
                self._forget_model(name)
        # Not in place: a service of before the edit goes on with its own.
        before, self._keys = self._keys, {}
        for name, holder in self._holders.items():
            old = before.get(name) if holders.get(name) == holder else None
            new = keys.get(name)
            if new is not None:
                self._keys[name] = (
                    old.changed(new, is_refused=name in self.refused, now=now)
                    if old is not None
                    else ApiKey(current=new)
                )
            if (old and old.current) != new:
                self.refused.pop(name, None)
                self.breaker.key_changed(name)
        return self._keys

    def learned(self, name: str) -> Learned:
        """What its answers have taught of what it takes at once."""
        found = self._learned.get(name)
        if found is None:
            found = self._learned[name] = Learned()
        return found

    def is_plain(self, name: str, *, now: float) -> bool:
        """Whether it refuses `encoding_format`."""
        return now < self._plain.get(name, now)

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
        return found.numbers if found is not None and now < found.until else None

    def _forget(self, name: str) -> None:
        self.breaker.succeeded(name)
        self.refused.pop(name, None)
        self._plain.pop(name, None)
        self._forget_model(name)

    def _forget_model(self, name: str) -> None:
        self._learned.pop(name, None)
        self._own_sizes.pop(name, None)
