"""The hot path gives the same answer as the ordinary path, to any request in any history."""

import asyncio
import gc
import json
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedding_contract import document, names
from embedding_http.flow import Reply
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.api import byte_budget, response_headers
from embedding_sidecar.api.embeddings import Asked, Embeddings
from embedding_sidecar.cache import generations, memory_cache, tiered_cache
from embedding_sidecar.engine import (
    batches,
    cached_answers,
    failover,
    inflight,
    provider_states,
    request_state,
    service,
)
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.openai_format import openai_json, request_headers
from embedding_sidecar.policy import runtime
from embedding_sidecar.quota import claims, leases
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api
from tests.fakes import provider as stand_in

DOCUMENT = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=(
        document.Provider(
            name="first", kind="OpenAI", model="m", base_url="http://p/v1", aliases=("small",)
        ),
        document.Provider(
            name="second",
            kind="OpenAICompatible",
            model="n",
            base_url="http://p/extended/v1",
            dimensions=8,
        ),
    ),
)
TTL_SECONDS = 60
LEFT = Allowance(
    requests=10,
    requests_left=9,
    tokens=None,
    tokens_left=None,
    resets_in_seconds=60.0,
)
MOVES = re.compile(rb"(x-request-id|x-embedding-overhead-ms): [^\r]*\r\n")
NAMED = re.compile(rb"x-request-id: req_[0-9a-f]{32}\r\n")
SUMS = re.compile(rb"^aos_embedding_(cache|api)_latency_seconds_(sum|bucket).*$", re.MULTILINE)


class Unlimited:
    def draw(self, *, tokens, done, background=False, price=0):
        done(leases.Reservation(0, claims.Amounts(1, tokens), 0))

    def settle(self, reservation, *, billed, tokens, price=0):
        pass


class World:
    """An endpoint with all that is around it, answering at once where it may or never."""

    loop: asyncio.Runner

    def __init__(
        self,
        *,
        hot: bool,
        memory_max_bytes: int = 10**6,
        small_bytes: int = byte_budget.SMALL_BYTES,
    ) -> None:
        self.hot = hot
        self.small_bytes = small_bytes
        self.now = 1_700_000_000.0
        self.at_once = 0
        self.provider = stand_in.StandIn()
        self.metrics = Metrics()
        memory = memory_cache.MemoryCache(
            max_bytes=memory_max_bytes, ttl_seconds=TTL_SECONDS, clock=lambda: self.now
        )
        self.cache = tiered_cache.TieredCache(
            scope=DOCUMENT.cache_scope,
            ttl_seconds=TTL_SECONDS,
            memory=memory,
            store=None,
            generations=generations.Generations(store=None, forget=memory.forget),
            observe=self.metrics,
            clock=lambda: self.now,
        )
        self.cached_answers = cached_answers.CachedAnswers(
            document=DOCUMENT,
            memory=self.cache,
            max_bytes=memory_max_bytes,
            clock=lambda: self.now,
        )
        unused: Any = SimpleNamespace()
        loaded: Any = SimpleNamespace(document=DOCUMENT)
        day: Any = SimpleNamespace(left=lambda **_: LEFT)
        unlimited: Any = Unlimited()
        self.running = runtime.Runtime(
            loaded=loaded,
            service=service.Service(
                document=DOCUMENT,
                caller=Caller(
                    keys={
                        it.name: provider_states.ApiKey(current=stand_in.KEY)
                        for it in DOCUMENT.providers
                    },
                    cache=self.cache,
                    quota=unlimited,
                    upstream=self.provider,
                    observe=self.metrics,
                    registry=inflight.InflightCalls(clock=lambda: self.now),
                    clock=lambda: self.now,
                    wall_clock=lambda: self.now,
                ),
            ),
            quota=day,
            cache=self.cache,
            upstream=unused,
            cached_answers=self.cached_answers,
        )
        current: Any = SimpleNamespace(
            runtime=lambda: self.running, runtime_or_none=lambda: self.running
        )
        self.endpoint = Embeddings(current=current, metrics=self.metrics, otherwise=unused)

    def post(self, body: bytes, *headers: tuple[bytes, bytes]) -> Any:
        """Status, head and body, as they would stand on the wire."""
        with mock.patch.object(byte_budget, "SMALL_BYTES", self.small_bytes):
            return self._post(body, headers)

    def _post(self, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Any:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": names.PATH_EMBEDDINGS,
            "headers": list(headers),
        }
        head = self.endpoint.head(scope) if self.hot else None
        result = None if head is None else self.endpoint.at_once(head, body)
        if isinstance(result, Reply):
            self.at_once += 1
            return result
        asked: list[Any] = [None]
        if result is not None:
            # Without a store there is nothing to wait for.
            self.endpoint.look_up(result, asked.append)
        return World.loop.run(self._task(scope, body, asked[-1]))

    async def _task(self, scope, body, asked):
        sent = []
        come = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            return next(come, None) or await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        reply = await self.endpoint.respond(scope, receive, send, asked)
        if reply is not None:
            return reply
        head = b"".join(b"%b: %b\r\n" % pair for pair in sent[0]["headers"])
        return sent[0]["status"], head, sent[1]["body"]

    def counted(self) -> bytes:
        """What a scrape shows, but for times."""
        self.metrics.set("aos_embedding_cache_memory_bytes", self.cache.memory.bytes_held)
        return SUMS.sub(b"", self.metrics.exposition())


@pytest.fixture(autouse=True, scope="module")
def _loop():
    with asyncio.Runner() as World.loop:
        yield


def said(reply):
    status, head, body = reply
    return status, MOVES.sub(b"", head), body


TEXTS = st.sampled_from(["a", "b", "two words", "ü", 'quoted "text"', "too long", ""])
ITEMS = st.one_of(TEXTS, st.lists(st.integers(0, 3), max_size=2))
JSON = st.one_of(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["m", "small", "n", "nobody's"]),
            "input": st.one_of(TEXTS, st.lists(ITEMS, max_size=4)),
        },
        optional={
            "encoding_format": st.sampled_from(["base64", "float", "hex", None]),
            "dimensions": st.sampled_from([None, 8, 16, 0, "8"]),
            "input_type": st.sampled_from([None, "query", "document", "other"]),
            "truncation": st.sampled_from([None, True, "yes"]),
            "user": st.sampled_from(["u", ""]),
            "cache": st.sampled_from([{}, {"no-cache": True}, {"ttl": 30}, {"no-store": 1}]),
            "output_dimension": st.just(8),
            "more": st.none(),
        },
    ).map(lambda it: json.dumps(it).encode()),
    st.sampled_from([b"", b"{", b"[]", b'{"model":"m","input":"\\ud800"}']),
)
STEPS = st.one_of(
    JSON, JSON, JSON, st.sampled_from([("clear", None), ("clear", "m"), ("wait", 40)])
)


HEADERS = st.sampled_from(
    [
        (),
        (),
        ((b"cache-control", b"no-cache"),),
        ((b"cache-control", b"max-age=30"),),
        ((b"cache-control", b"private"),),
        ((b"content-type", b"text/plain"),),
        ((b"content-encoding", b"gzip"),),
        ((b"x-embedding-class", b"background"),),
        ((b"x-embedding-class", b"batch"),),
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.tuples(STEPS, HEADERS), max_size=20),
    memory_max_bytes=st.sampled_from([10**6, 2500]),
)
def test_hot_and_ordinary_answers_are_same_bytes(steps, memory_max_bytes):
    assert_same(
        steps,
        World(hot=True, memory_max_bytes=memory_max_bytes),
        World(hot=False, memory_max_bytes=memory_max_bytes),
    )


@settings(deadline=None)
@given(steps=st.lists(st.tuples(STEPS, HEADERS), max_size=20), hot=st.booleans())
@example(steps=[(b'{"model":"m","input":["a","b"]}', ())], hot=True)
@example(
    steps=[
        (b'{"model": "m", "input": "a"}', ()),
        (("wait", 40), ()),
        (("wait", 40), ()),
        (b'{"model": "m", "input": "a"}', ()),
    ],
    hot=True,
)
def test_answers_to_requests_that_take_room_are_same_bytes(steps, hot):
    assert_same(steps, World(hot=hot, small_bytes=0), World(hot=False))


def assert_same(steps, hot, ordinary):
    for step, headers in steps:
        for world in (hot, ordinary):
            match step:
                case ("clear", model):
                    World.loop.run(world.cache.generations.clear(model))
                case ("wait", seconds):
                    world.now += seconds
        if isinstance(step, bytes):
            assert said(hot.post(step, *headers)) == said(ordinary.post(step, *headers))
            # A second time, which is where memory answers.
            assert said(hot.post(step)) == said(ordinary.post(step))
            assert said(hot.post(step, *headers)) == said(ordinary.post(step, *headers))
    assert hot.counted() == ordinary.counted()
    assert hot.cache.stats() == ordinary.cache.stats()
    assert [call.body for call in hot.provider.calls] == [
        call.body for call in ordinary.provider.calls
    ]


def body(text="a", **more):
    return json.dumps({"model": "m", "input": text, "encoding_format": "base64", **more}).encode()


def test_hit_in_memory_is_answered_at_once():
    world = World(hot=True)
    for text in ("a", ["a", "b"], ["b", "a", "b"]):
        world.post(body(text))
        before = world.at_once
        world.post(body(text))
        world.post(body(text))
        assert world.at_once == before + 2
    assert len(world.provider.calls) == 2


def test_failure_nobody_thought_of_is_500_and_in_log(caplog, monkeypatch):
    world = World(hot=True)
    monkeypatch.setattr(batches, "shares", lambda *_: 1 / 0)
    status, _, said = world.post(body())
    assert status == 500
    assert json.loads(said)["error"]["code"] == "internal_error"
    assert "ZeroDivisionError" in caplog.text


def test_answer_is_written_before_its_vector_is_kept(monkeypatch):
    world, steps = World(hot=True), mock.Mock()
    steps.answer.side_effect, steps.keep.side_effect = openai_json.render, world.cache.put_many
    monkeypatch.setattr(openai_json, "render", steps.answer)
    monkeypatch.setattr(world.cache, "put_many", steps.keep)
    assert world.post(body())[0] == 200
    assert [name for name, _, _ in steps.mock_calls] == ["answer", "keep"]


def test_cache_that_cannot_keep_vector_takes_no_answer_away(caplog, monkeypatch):
    world = World(hot=True)
    monkeypatch.setattr(world.cache, "put_many", lambda *_, **__: 1 / 0)
    assert world.post(body())[0] == 200
    assert "vectors could not be kept" in caplog.text


def test_unwritable_answer_is_500_for_callback(monkeypatch):
    world = World(hot=True)
    world.post(body())
    asked = world.endpoint.at_once(request_headers.Head(), body("other"))
    assert isinstance(asked, Asked)
    assert asked.wanted is not None
    known = world.cached_answers.known(body()) or world.cached_answers.wanted(
        openai_json.parse(body()).ask, base64=True
    )
    from_memory = request_state.Found(
        known.keys, world.cache.cached_answers(known.keys), looked_at=0.0
    )
    monkeypatch.setattr(openai_json, "render", lambda **_: 1 / 0)
    told: list[Any] = []
    world.endpoint.look_up(asked._replace(wanted=known, found=from_memory), told.append)
    assert [it.status for it in told] == [500]
    assert "other" not in repr(asked)


def test_body_that_is_known_is_forgotten_with_its_vector():
    world = World(hot=True)
    asked = provider_api.Ask(model="m", items=("a",))
    for change in (
        lambda: World.loop.run(world.cache.clear_items([(asked, "unlike any")], model="m")),
        lambda: World.loop.run(world.cache.generations.clear(None)),
        lambda: World.loop.run(world.cache.generations.clear("m")),
        lambda: setattr(world, "now", world.now + TTL_SECONDS),
    ):
        world.post(body())
        world.post(body())
        assert world.cached_answers.known(body()) is not None
        change()
        bought = len(world.provider.calls)
        assert b"x-embedding-cache: miss\r\n" in world.post(body())[1]
        assert len(world.provider.calls) == bought + 1
        before = world.at_once
        world.post(body())
        assert world.at_once == before + 1


def test_entry_that_contradicts_its_key_is_not_served():
    world = World(hot=True)
    texts = body(["a", "b"])
    world.post(texts)
    wanted = cached_answers.Wanted(
        *world.cached_answers.wanted(openai_json.parse(texts).ask, base64=True)
    )
    good, _ = world.cache.cached_answers(wanted.keys)
    assert good is not None
    for change in ({"model": "n"}, {"space": "elsewhere"}, {"vector": b"\0" * 8}):
        bad = good._replace(**change)
        world.cache.put_many({wanted.keys[0]: bad})
        assert isinstance(world.cached_answers.answer(wanted), request_state.Found)
        world.cache.put_many({wanted.keys[0]: good})
        assert isinstance(world.cached_answers.answer(wanted), Answer)


def test_known_bodies_stay_within_their_bytes():
    world = World(hot=True)
    small = cached_answers.CachedAnswers(document=DOCUMENT, memory=world.cache, max_bytes=5000)
    candidate = world.cached_answers.wanted(openai_json.parse(body()).ask, base64=True).candidate
    wanted = cached_answers.Wanted(candidate, ["k"], base64=True)
    small.known(b"")
    for number in range(100):
        small.learn(b"%d" % number, wanted)
        assert small.bytes_held <= 5000
    assert small.known(b"99") is wanted
    assert small.known(b"0") is None
    small.learn(b"x" * (cached_answers.MAX_BODY_BYTES + 1), wanted)
    small.learn(b"two", cached_answers.Wanted(candidate, ["k", "l"], base64=True))
    assert small.known(b"x" * (cached_answers.MAX_BODY_BYTES + 1)) is None
    assert small.known(b"two") is None


def test_terms_that_callers_think_up_are_not_kept_for_ever():
    world = World(hot=True)
    for dimensions in range(1, failover.MAX_CANDIDATES + 2):
        world.endpoint.at_once(request_headers.Head(), body(dimensions=dimensions))
    choose: Any = world.cached_answers._candidates
    assert choose.cache_info().currsize == failover.MAX_CANDIDATES


def test_callers_name_of_its_request_comes_back():
    world = World(hot=True)
    for _ in range(3):
        _, head, _ = world.post(body(), (b"x-request-id", b"mine"))
        assert b"x-request-id: mine\r\n" in head
    given = {tuple(NAMED.findall(world.post(body())[1])) for _ in range(3)}
    assert len(given) == 3


def test_value_that_no_header_can_hold_is_encoded():
    day: Any = SimpleNamespace(left=lambda **_: LEFT)
    head = response_headers.head(
        Answer(
            vectors=(),
            provider="a b",
            kind="OpenAI",
            model="ü\r\nx-other: 1",
            space="50%",
            hits=0,
            coalesced=0,
            items=1,
            tokens=0,
            tokens_saved=0,
            attempts=0,
            upstream_seconds=0.25,
        ),
        day,
        seconds=0.251,
    )
    assert head.split(b"\r\n")[:4] == [
        b"x-embedding-provider: a b",
        b"x-embedding-model: %C3%BC%0D%0Ax-other: 1",
        b"x-embedding-space: 50%",
        b"x-embedding-cache: miss",
    ]
    assert head.endswith(b"x-embedding-overhead-ms: 1.000\r\n")


@pytest.mark.parametrize("code", [400, 401])
def test_request_that_failed_is_gone_once_it_is_answered(code):
    """Without waiting for a collection of garbage: a request may hold 16 MB."""
    world = World(hot=False)
    world.provider.fault = stand_in.status(code)
    gc.collect()
    gc.disable()
    try:
        status, _, _ = world.post(b'{"model": "small", "input": "gone"}')
        asks = [it for it in gc.get_objects() if isinstance(it, provider_api.Ask)]
    finally:
        gc.enable()
    assert status >= 400
    assert not any("gone" in it.items for it in asks)
