"""A service in virtual time, with providers, quota and cache that record their use."""

import asyncio
from typing import Any, cast

import pytest

from embedding_contract import document
from embedding_sidecar import allowance, errors
from embedding_sidecar.cache import generations, memory_cache, tiered_cache
from embedding_sidecar.engine import inflight
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.engine.provider_states import ApiKey, ProviderStates
from embedding_sidecar.engine.service import Service, Timing
from embedding_sidecar.identity import access_tokens
from embedding_sidecar.openai_format.cache_control import DEFAULT
from embedding_sidecar.quota import claims, leases
from embedding_sidecar.quota.ceilings import WithCeiling
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.rates import Rates
from embedding_sidecar.translation import provider_api
from tests.fakes import provider as stand_in
from tests.fakes.provider import KEY, StandIn
from tests.fakes.rate_windows import FakeWindows
from tests.parts import virtual_time
from tests.parts.upstreams import Starts

WALL = 1_700_000_000.0
TIMING = Timing()


NOTHING_LEFT = allowance.Allowance(
    requests=1, requests_left=0, tokens=None, tokens_left=None, resets_in_seconds=60.0
)


class Quota:
    """Counts what is reserved and settled; `left` calls until the day is used up.

    Background work gets none of the last `kept`; `of_background` says of each call what it was.
    """

    def __init__(self, left: int = 10**6, *, kept: int = 0) -> None:
        self.left = left
        self.kept = kept
        self.of_background: list[bool] = []
        self.reserved: list[int] = []
        self.settled: list[tuple[bool, int]] = []
        self._open: set[int] = set()

    def draw(self, *, tokens, done, background=False, price=0):
        try:
            outcome = self._reserve(tokens, background)
        except errors.QuotaExhausted as exhausted:
            outcome = exhausted
        done(outcome)

    def _reserve(self, tokens, background):
        if self.left == 0:
            raise errors.QuotaExhausted("used up", left=NOTHING_LEFT)
        if background and self.left <= self.kept:
            raise errors.QuotaReserved("for applications", left=NOTHING_LEFT)
        self.left -= 1
        self.of_background.append(background)
        self.reserved.append(tokens)
        self._open.add(len(self.reserved))
        return leases.Reservation(len(self.reserved), claims.Amounts(1, tokens), 0)

    def settle(self, reservation, *, billed, tokens, price=0):
        self._open.remove(reservation.serial)
        self.left += not billed
        self.settled.append((billed, tokens))


class Seen:
    """What was told to metrics."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.billed = 0
        self.errors: list[tuple[str, str]] = []
        self.failovers: list[str] = []
        self.waits: list[tuple[str, float]] = []
        self.rates_refused: list[str] = []
        self.beyond: list[tuple[str, str]] = []

    def call(self, *, provider, model, outcome, seconds):
        self.calls.append((provider, model, outcome))

    def tokens(self, *, provider, model, tokens):
        self.billed += tokens

    def error(self, kind, provider=""):
        self.errors.append((kind, provider))

    def failover(self, provider):
        self.failovers.append(provider)

    def rate_waited(self, provider, *, seconds):
        self.waits.append((provider, seconds))

    def rate_refused(self, provider):
        self.rates_refused.append(provider)

    def quota_observed(self, period, unit):
        self.beyond.append((period, unit))

    def looked_up(self, layer, *, hits, seconds):
        pass

    def missed(self, items):
        pass

    def saved(self, *, model: str, tokens: int) -> None:
        """Tokens that the cache saved; Layers counts them itself."""


class Internet(Starts):
    """Providers by host name."""

    def __init__(self) -> None:
        self.hosts: dict[str, StandIn] = {}
        self.others: dict[str, Starts] = {}

    def __getitem__(self, host: str) -> StandIn:
        return self.hosts.setdefault(host, StandIn())

    async def send(
        self, request: provider_api.HttpRequest, *, within_seconds: float
    ) -> provider_api.HttpAnswer:
        host = request.url.split("/")[2]
        answering = self.others.get(host) or self[host]
        return await answering.send(request, within_seconds=within_seconds)


def one(name, model="m", *, kind="OpenAI", space=None, **rest) -> document.Provider:
    path = stand_in.PATHS[kind]
    return document.Provider(
        name=name,
        kind=kind,
        model=model,
        base_url=f"http://{name}/{path}",
        declared_space=space,
        **{"api_key_file": f"provider-{name}", **stand_in.terms(kind, model), **rest},
    )


class World:
    """A service with all that is around it; providers are told from each other by host."""

    def __init__(
        self,
        *providers,
        crossing=False,
        enabled=True,
        quota=None,
        keys=None,
        namespace="shop",
        timing=TIMING,
        states=None,
        identity_token=None,
        login=None,
        share=lambda: 1.0,
        rates=None,
        ceilings=None,
    ) -> None:
        self.document = document.PolicyDocument(
            namespace=namespace,
            name="search",
            providers=providers,
            failover=document.Failover(enabled=enabled, across_spaces=crossing),
        )
        self.net = Internet()
        self.net.others = {} if login is None else {"login": login}
        self.quota = quota or Quota()
        self.seen = Seen()
        self.loop = virtual_time.Loop()
        self.windows = FakeWindows(self.loop.time)
        self.rates = Rates(clock=self.loop.time)
        self.registry = inflight.InflightCalls(clock=self.loop.time)
        memory = memory_cache.MemoryCache(max_bytes=10**7, ttl_seconds=60, clock=lambda: WALL)
        self.cache = tiered_cache.TieredCache(
            scope=self.document.cache_scope,
            ttl_seconds=60,
            memory=memory,
            store=None,
            generations=generations.Generations(store=None, forget=memory.forget),
            observe=self.seen,
            clock=lambda: WALL,
        )
        if keys is None:
            keys = {it.name: KEY for it in providers}
        self.service = Service(
            document=self.document,
            caller=Caller(
                keys={
                    name: ApiKey(current=key) if isinstance(key, str) else key
                    for name, key in keys.items()
                },
                cache=self.cache,
                quota=cast("Any", self.quota),
                ceilings={
                    name: WithCeiling(cast("Any", self.quota), cast("Any", it), class_name="c")
                    for name, it in (ceilings or {}).items()
                },
                upstream=self.net,
                observe=cast("Any", self.seen),
                registry=self.registry,
                states=states or ProviderStates(),
                attempt_seconds=timing.attempt_seconds,
                clock=self.loop.time,
                wall_clock=lambda: WALL,
                tokens=self.run(self._tokens(identity_token)) if identity_token else {},
                rates=None if rates is None else self.limited(rates),
            ),
            timing=timing,
            share=share,
        )

    async def _tokens(self, file):
        return access_tokens.AccessTokens(file=file).follow(self.document, upstream=self.net)

    def limited(self, terms):
        """The limits per minute of providers by name, or of a provider's several windows."""
        return self.rates.obey(
            {
                name: [
                    Place(f"{name}/{at}", self.windows, it, may_go_alone=False)
                    for at, it in enumerate(them if isinstance(them, list) else [them])
                ]
                for name, them in terms.items()
            }
        )

    def embed(self, *items, model="m", control=DEFAULT, **rest) -> Answer:
        asked = ask(*items, model=model, **rest)
        answer: Answer = self.run(self.service.embed(asked, control=control))
        return answer

    def together(self, *batches):
        """What each of several requests gets that come at the same time: an answer or an error."""

        async def all_of_them():
            asked = (self.service.embed(ask(*batch)) for batch in batches)
            return await asyncio.gather(*asked, return_exceptions=True)

        return self.run(all_of_them())

    def run(self, work):
        return self.loop.run_until_complete(work)

    def refusal(self, *items, **rest) -> errors.Refused:
        with pytest.raises(errors.Refused) as caught:
            self.embed(*items, **rest)
        return caught.value

    def asked(self, host) -> list[list]:
        return [call.body["input"] for call in self.net[host].calls]


def ask(*items, model="m", **rest) -> provider_api.Ask:
    return provider_api.Ask(model=model, items=items, **rest)


def vectors(model, *items):
    return tuple(stand_in.vector(model, item) for item in items)
