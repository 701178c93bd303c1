"""The parts that all calls of one policy share, given to whatever makes a call."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar.cache import tiered_cache
from embedding_sidecar.engine import inflight, provider_states
from embedding_sidecar.identity import access_tokens
from embedding_sidecar.quota.ceilings import WithCeiling
from embedding_sidecar.quota.quota import Quota
from embedding_sidecar.rate.rates import ProviderRate
from embedding_sidecar.telemetry.logs import Repeated
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api

ATTEMPT_SECONDS: Final = 30.0


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Caller:
    """The quota, cache, keys and connections of a policy's calls.

    `keys` and `tokens` are by the provider's name, absent where there is none; a provider has a key
    or an identity with access tokens. `registry` and `states` outlive the policy's document.
    `prices` are by the provider's name, in nano-dollars of a million tokens, empty where no limit
    is in money. `attempt_seconds` is the longest that one call may take. `clock` is in seconds and
    never goes back; `wall_clock` is Unix time in seconds, which entries of the cache are marked
    with.
    """

    keys: Mapping[str, provider_states.ApiKey]
    quota: Quota
    upstream: provider_api.Upstream
    observe: Metrics
    cache: tiered_cache.TieredCache
    registry: inflight.InflightCalls
    prices: Mapping[str, int] = field(default_factory=dict)
    ceilings: Mapping[str, WithCeiling] = field(default_factory=dict)
    """The quotas of providers with a ceiling, by name; `quota` is that of all others."""
    states: provider_states.ProviderStates = field(default_factory=provider_states.ProviderStates)
    attempt_seconds: float = ATTEMPT_SECONDS
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    tokens: Mapping[str, access_tokens.TokenSource] = field(default_factory=dict)
    repeated: Repeated = field(default_factory=Repeated)
    rates: Mapping[str, ProviderRate] | None = None
    """Limits per minute by the provider's name; None where the policy has none."""

    def quota_of(self, name: str) -> Quota | WithCeiling:
        """The quota that a call to this provider is drawn from."""
        return self.ceilings.get(name, self.quota) if self.ceilings else self.quota

    def price_of(self, name: str) -> int:
        """Nano-dollars of a million of this provider's tokens; 0 where no limit is in money."""
        return self.prices.get(name, 0)

    def rate_of(self, name: str) -> ProviderRate | None:
        """The limits per minute that a call to this provider waits for, if there are any.

        They are the policy's, else those of the provider's own answers, while it takes no more.
        """
        if self.rates is not None and name in self.rates:
            return self.rates[name]
        learned = self.states.rates.get(name) if self.states.rates else None
        return learned.waits if learned is not None and learned.holds else None
