"""The state of the providers, which outlives an edit of the policy.

A provider is the same after an edit if scope, name, type, address and class are: then its breaker,
its keys, and the facts learned from its answers stay. So no class's key is tried by a provider that
is not of the class. Facts about a model are forgotten when the model changes, and facts about a key
when the key changes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from embedding_contract import document
from embedding_sidecar.engine import breaker
from embedding_sidecar.engine.learned_limits import Learned
from embedding_sidecar.rate.learned import LearnedRate

PREVIOUS_SECONDS: Final = 600.0
"""The previous API key is held for this time after a change, as the new one may be wrong."""
FORGET_SECONDS: Final = 600.0
"""A server counts for this time as ignoring `dimensions`, or refusing `encoding_format`."""


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
        self.learned: defaultdict[str, Learned] = defaultdict(Learned)
        """The limits of a request that were learned from a provider's answers."""
        self.rates: dict[str, LearnedRate] = {}
        """Limits per minute of which nothing remained, by an answer of the provider."""
        self._plain: dict[str, float] = {}
        self._own_sizes: dict[str, tuple[int, float]] = {}
        """Vector sizes of servers that ignore `dimensions`, 0 where unknown; and their expiry."""
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
            it.name: (policy.scope, it.name, it.kind, it.base_url, it.class_name)
            for it in policy.providers
        }
        self._models = {it.name: it.model for it in policy.providers}
        for name in holders.keys() | self._holders.keys():
            if holders.get(name) != self._holders.get(name):
                self._forget(name)
            elif models.get(name) != self._models.get(name):
                self._forget_model(name)
        # A new mapping: a service from before the edit goes on with the old one.
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
                self.rates.pop(name, None)
                self.breaker.key_changed(name)
        return self._keys

    def used_up(self, name: str, seconds: float, *, clock: Callable[[], float]) -> None:
        """Nothing remains of the provider's own limits for so long."""
        found = self.rates.get(name)
        if found is None:
            found = self.rates[name] = LearnedRate(clock=clock)
        found.used_up(seconds)

    def is_plain(self, name: str, *, now: float) -> bool:
        """True if the provider refuses `encoding_format`."""
        return now < self._plain.get(name, now)

    def takes_no_encoding(self, name: str, *, now: float) -> None:
        """The provider answered without `encoding_format` a request that it had refused with it."""
        self._plain[name] = now + FORGET_SECONDS

    def ignores_dimensions(self, name: str, numbers: int, *, now: float) -> None:
        """The provider answered with vectors of its own size, where another was asked for."""
        self._own_sizes[name] = numbers, now + FORGET_SECONDS

    def own_size(self, name: str, *, clock: Callable[[], float]) -> int | None:
        """The vector size of a server that ignores `dimensions`, 0 where unknown; None if it obeys.

        An observed size counts for FORGET_SECONDS.
        """
        found = self._own_sizes.get(name)
        if found is None:
            return None
        numbers, until = found
        return numbers if clock() < until else None

    def _forget(self, name: str) -> None:
        self.breaker.succeeded(name)
        self.refused.pop(name, None)
        self.rates.pop(name, None)
        self._plain.pop(name, None)
        self._forget_model(name)

    def _forget_model(self, name: str) -> None:
        self.learned.pop(name, None)
        self._own_sizes.pop(name, None)
