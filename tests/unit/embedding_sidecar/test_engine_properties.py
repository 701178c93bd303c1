"""Any mix of cached, repeated, slow and failing texts, with callers that ask at the same time.

The answer is what an uncached, unbatched run gives, in order and of one space, or a typed refusal;
and money is counted.

Time is virtual: a case takes no longer than its work.
"""

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors, providers
from embedding_sidecar.cache import generations, memory_cache, tiered_cache
from embedding_sidecar.engine import inflight
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.engine.request_state import Found
from embedding_sidecar.engine.service import Service
from embedding_sidecar.openai_format import cache_control
from embedding_sidecar.providers import openai
from embedding_sidecar.quota import claims, leases
from embedding_sidecar.translation import provider_api
from tests.fakes import provider as stand_in
from tests.parts import virtual_time
from tests.parts.upstreams import Starts
from tests.parts.world import NOTHING_LEFT

MODEL_OF = {"s": "m", "t": "n"}
"""Two providers serve one model, a third one another, whose space is another."""
PROVIDERS = tuple(
    document.Provider(
        name=name,
        kind="OpenAICompatible",
        model=MODEL_OF[space],
        base_url=f"http://{name}/extended/v1",
        declared_space=space,
        dimensions=stand_in.DIMENSIONS,
        aliases=("any",),
    )
    for name, space in (("p", "s"), ("q", "s"), ("r", "t"))
)
TOO_LONG = "too long"
LOST = errors.Unreachable("connection_lost", billed=True)
REFUSED = errors.Unreachable("no_connection", billed=False)
FAULTS = {
    "none": None,
    "slow": None,
    "500": stand_in.status(500),
    "503": stand_in.status(503, {"retry-after": "2"}),
    "429": stand_in.status(429),
    "429 with a wait": stand_in.status(429, {"retry-after-ms": "700"}),
    "429 with a long wait": stand_in.status(429, {"retry-after": "3600"}),
    "402": stand_in.status(402),
    "401": stand_in.status(401),
    "413": stand_in.status(413),
    "504": stand_in.status(504),
    "refused": REFUSED,
    "lost": LOST,
    "nonsense": stand_in.raw(b"<html>"),
    "one too few": stand_in.changed(lambda body: body["data"].pop()),
    "an index twice": stand_in.changed(lambda body: body["data"][-1].update(index=0)),
    "another size": stand_in.changed(
        lambda body: body["data"][0].update(embedding=[1.0] * (stand_in.DIMENSIONS - 1))
    ),
}
UNBILLED = {"500", "503", "429", "429 with a wait", "429 with a long wait"} | {
    "402",
    "401",
    "413",
    "refused",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a provider does with one call; `open`: a line to it stands open before that."""

    fault: str = "none"
    seconds: float = 0.01
    open: bool = True


@dataclass
class Net(Starts):
    """All providers; each call takes the next step of the script, and all is well after its end."""

    script: list[Step]
    calls: int = 0
    billed: int = 0
    successes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._steps = itertools.chain(self.script, itertools.repeat(Step()))
        self._provider = stand_in.StandIn(key=None)

    def is_ready(self) -> bool:
        return self.calls >= len(self.script) or self.script[self.calls].open

    async def send(
        self, request: provider_api.HttpRequest, *, within_seconds: float
    ) -> provider_api.HttpAnswer:
        step = next(self._steps)
        self.calls += 1
        asked = json.loads(request.body)
        rejected = TOO_LONG in asked["input"]
        self.billed += step.fault not in UNBILLED and not rejected
        fault = FAULTS[step.fault]
        self._provider.fault = None if isinstance(fault, errors.Unreachable) or rejected else fault
        path = "/" + request.url.split("/", 3)[3]
        status, headers, body = self._provider.answer(path, request.headers, request.body)
        await asyncio.sleep(min(step.seconds, within_seconds))
        if isinstance(fault, errors.Unreachable) and not rejected:
            raise fault
        if step.seconds > within_seconds:
            self.billed += step.fault in UNBILLED or rejected
            raise errors.Unreachable("timeout", billed=True)
        if fault is None and not rejected:
            self.successes.update((asked["model"], str(item)) for item in asked["input"])
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return provider_api.HttpAnswer(status=status, lines=stand_in.lines(headers), body=raw)


class Quota:
    """Counts, and gives back what was not billed; holds two of each three it is asked for."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.drawn = 0
        self._times_asked = 0
        self.reserved: list[int] = []
        self.settled: dict[int, tuple[bool, int]] = {}

    async def _later(self, tokens):
        await asyncio.sleep(0)
        if self.left == 0:
            raise errors.QuotaExhausted("used up", left=NOTHING_LEFT)
        return self._spend(tokens)

    def draw(self, *, tokens, done, background=False, price=0):
        self.drawn += 1
        self._times_asked += 1
        if self.left and self._times_asked % 3:
            done(self._spend(tokens))
        else:
            task = asyncio.create_task(self._later(tokens))
            task.add_done_callback(lambda it: done(it.exception() or it.result()))

    def settle(self, reservation, *, billed, tokens, price=0):
        serial = reservation.serial
        assert serial not in self.settled
        assert tokens <= self.reserved[serial]
        self.left += not billed
        self.settled[serial] = (billed, tokens)

    def _spend(self, tokens):
        self.left -= 1
        self.reserved.append(tokens)
        return leases.Reservation(len(self.reserved) - 1, claims.Amounts(1, tokens), 0)


class Silent:
    """Hears everything, and keeps nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


@dataclass(frozen=True, kw_only=True)
class Limited(openai.OpenAI):
    """A provider of any limits."""

    most: provider_api.Limits

    def limits(self, model: str) -> provider_api.Limits:
        return self.most


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, when it comes and when its caller goes away.

    `begun`: after a look into the cache.
    """

    items: list[provider_api.Item]
    at: float
    leaves_after: float | None = None
    begun: bool = False
    control: cache_control.CacheControl = cache_control.DEFAULT


class Case:
    """A sidecar, its providers, and what became of what was asked of it."""

    def __init__(self, script, *, calls_left=10**9, crossing=True) -> None:
        self.loop = virtual_time.Loop()
        self.net = Net(script)
        self.quota = Quota(calls_left)
        silent: Any = Silent()
        self.registry = inflight.InflightCalls(clock=self.loop.time)
        memory = memory_cache.MemoryCache(max_bytes=10**7, ttl_seconds=10**6, clock=self.loop.time)
        policy = document.PolicyDocument(
            namespace="n",
            name="p",
            providers=PROVIDERS,
            failover=document.Failover(enabled=True, across_spaces=crossing),
        )
        self.cache = tiered_cache.TieredCache(
            scope="n/p",
            ttl_seconds=10**6,
            memory=memory,
            store=None,
            generations=generations.Generations(store=None, forget=memory.forget),
            observe=silent,
            clock=self.loop.time,
        )
        self.service = Service(
            document=policy,
            caller=Caller(
                keys={},
                cache=self.cache,
                quota=cast("Any", self.quota),
                upstream=self.net,
                observe=silent,
                registry=self.registry,
                clock=self.loop.time,
                wall_clock=self.loop.time,
            ),
        )

    def run(
        self, asks: list[Ask], limits: provider_api.Limits
    ) -> list[Answer | errors.Refused | None]:
        """What each got; None for who went away."""

        async def one(asked: Ask) -> Answer | errors.Refused | None:
            await asyncio.sleep(asked.at)
            wanted = provider_api.Ask(model="any", items=tuple(asked.items))
            found = await self.look(wanted) if asked.begun else None
            answering = self.service.embed(wanted, control=asked.control, found=found)
            try:
                return await asyncio.wait_for(answering, asked.leaves_after)
            except errors.Refused as refused:
                return refused
            except TimeoutError:
                return None

        async def all_of_them() -> list[Answer | errors.Refused | None]:
            got = await asyncio.gather(*(one(asked) for asked in asks))
            await asyncio.sleep(100)  # what is still under way comes to its end
            return got

        known = {**providers.PROVIDERS, "OpenAICompatible": Limited(extended=True, most=limits)}
        with mock.patch.object(providers, "PROVIDERS", known):
            return self.loop.run_until_complete(all_of_them())

    async def look(self, wanted):
        """What the cache says before the service is asked."""
        looked_at = self.loop.time()
        keys = self.cache.keys(
            replace(wanted, model="m", dimensions=stand_in.DIMENSIONS), space="s"
        )
        return Found(keys, await self.cache.get_many(keys), looked_at)

    def is_settled(self) -> None:
        """Nothing is under way, and every call was counted as what it was."""
        assert not self.registry._under_way
        assert not self.registry._by_key
        assert len(self.quota.reserved) == len(self.quota.settled)
        # Not every one that was drawn was used: nobody wanted it any more.
        unused = len(self.quota.settled) - self.net.calls
        assert 0 <= unused <= self.quota.drawn
        assert sum(billed for billed, _ in self.quota.settled.values()) == self.net.billed


STEPS = st.builds(
    Step,
    fault=st.sampled_from(sorted(FAULTS)),
    open=st.booleans(),
    seconds=st.sampled_from([0.0, 0.01, 0.3, 3.0, 40.0]),
)
ITEMS = st.sampled_from(["a", "b", "c c", "d", "e e e", "f", (1, 2), (3,)])
LIMITS = st.builds(
    provider_api.Limits, items=st.integers(1, 6), tokens=st.none() | st.integers(1, 40)
)


def asks(items=ITEMS, **more):
    return st.lists(
        st.builds(
            Ask,
            items=st.lists(items, min_size=1, max_size=10),
            at=st.sampled_from([0.0, 0.005, 0.02, 0.3, 2.0]),
            leaves_after=st.sampled_from([None, None, 0.0, 0.1]),
            begun=st.booleans(),
            **more,
        ),
        min_size=1,
        max_size=5,
    )


def is_right(asked: Ask, answer: Answer) -> None:
    model = MODEL_OF[answer.space]
    alone = [
        stand_in.vector(model, list(item) if isinstance(item, tuple) else item)
        for item in asked.items
    ]
    assert list(answer.vectors) == alone
    assert answer.model == model
    assert answer.hits + answer.coalesced <= answer.items == len(asked.items)
    assert 0 <= answer.upstream_seconds <= 50


def holds(asked, script, limits, crossing) -> Case:
    """An answer is what every item alone gives, nothing is bought twice, every call is counted."""
    case = Case(script, crossing=crossing)
    got = case.run(asked, limits)
    for one, answer in zip(asked, got, strict=True):
        if isinstance(answer, Answer):
            is_right(one, answer)
            assert crossing or answer.space == "s"
        elif isinstance(answer, errors.Rejected):
            assert answer.status == 413
        else:
            assert isinstance(answer, errors.Unavailable) or one.leaves_after is not None
        event(type(answer).__name__)
    case.is_settled()
    assert set(case.net.successes.values()) <= {1}
    answers = [it for it in got if isinstance(it, Answer)]
    assert sum(it.attempts for it in answers) <= case.net.calls
    billed = sum(tokens for _, tokens in case.quota.settled.values())
    assert sum(it.tokens for it in answers) <= billed
    return case


CASES = given(asks(), st.lists(STEPS, max_size=25), LIMITS, st.booleans())


@settings(max_examples=1000, deadline=None)
@CASES
def test_answer_is_what_every_item_alone_gives_and_nothing_is_bought_twice(
    asked, script, limits, crossing
):
    holds(asked, script, limits, crossing)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_properties_hold_at_length(say):
    made = Counter[str]()

    @settings(max_examples=50_000, deadline=None)
    @CASES
    def hold(asked, script, limits, crossing):
        case = holds(asked, script, limits, crossing)
        made.update(cases=1, requests=len(asked), calls=case.net.calls, billed=case.net.billed)

    hold()
    say(
        f"engine: {made['cases']:,} cases of {made['requests']:,} requests held; "
        f"{made['calls']:,} calls to providers, {made['billed']:,} billed, all of them counted"
    )


@settings(deadline=None)
@given(asks(), LIMITS)
def test_callers_are_answered_and_calls_accounted_when_nothing_fails(asked, limits):
    case = Case([])
    stay = [Ask(items=it.items, at=it.at, begun=it.begun) for it in asked]
    got = case.run(stay, limits)
    answers = [it for it in got if isinstance(it, Answer)]
    assert len(answers) == len(stay)
    assert sum(it.attempts for it in answers) == case.net.calls
    assert sum(it.tokens for it in answers) == sum(it for _, it in case.quota.settled.values())
    wanted = {("m", str(list(it) if isinstance(it, tuple) else it)) for a in stay for it in a.items}
    assert case.net.successes == dict.fromkeys(wanted, 1)
    case.is_settled()


@settings(max_examples=300, deadline=None)
@given(asks(), st.lists(STEPS, max_size=10), LIMITS, st.integers(0, 6))
def test_day_is_never_exceeded_and_what_came_back_before_its_end_is_kept(
    asked, script, limits, left
):
    case = Case(script, calls_left=left)
    for one, answer in zip(asked, case.run(asked, limits), strict=True):
        if isinstance(answer, Answer):
            is_right(one, answer)
        elif isinstance(answer, errors.Rejected):
            assert answer.status == 413
        else:
            assert isinstance(answer, errors.Unavailable | errors.QuotaExhausted | None)
    case.is_settled()
    assert case.net.billed <= left
    calls = case.net.calls
    for model, item in case.net.successes:
        if model == "m" and not item.startswith("["):
            [again] = case.run([Ask(items=[item], at=0.0)], limits)
            assert isinstance(again, Answer)
            assert (again.hits, again.attempts) == (1, 0)
    assert case.net.calls == calls


@settings(max_examples=300, deadline=None)
@given(asks(ITEMS | st.just(TOO_LONG)), st.lists(STEPS, max_size=10), LIMITS)
def test_caller_is_not_blamed_for_text_of_another(asked, script, limits):
    case = Case(script)
    for one, answer in zip(asked, case.run(asked, limits), strict=True):
        if isinstance(answer, errors.Rejected) and answer.status == 400:
            assert TOO_LONG in one.items
        if isinstance(answer, Answer):
            assert TOO_LONG not in one.items
            is_right(one, answer)
    case.is_settled()


CONTROLS = st.builds(cache_control.CacheControl, no_cache=st.booleans(), no_store=st.booleans())


@settings(max_examples=300, deadline=None)
@given(asks(control=CONTROLS), st.lists(STEPS, max_size=10), LIMITS)
def test_cache_control_changes_no_vector(asked, script, limits):
    case = Case(script)
    for one, answer in zip(asked, case.run(asked, limits), strict=True):
        if isinstance(answer, Answer):
            is_right(one, answer)
            if one.control.no_cache:
                assert (answer.hits, answer.coalesced) == (0, 0)
    case.is_settled()
