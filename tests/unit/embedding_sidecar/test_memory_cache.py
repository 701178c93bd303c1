"""The cache: names of entries, their bytes, and what memory keeps."""

import asyncio
import gc
import hashlib
import multiprocessing
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.cache import (
    cache_entry,
    entry_encoding,
    generations,
    memory_cache,
    tiered_cache,
)
from embedding_sidecar.translation import provider_api

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ITEMS = TEXTS | st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(tuple)
ASKS = st.builds(
    provider_api.Ask,
    model=TEXTS,
    items=st.tuples(ITEMS),
    dimensions=st.none() | st.integers(1, 9999),
    input_type=st.sampled_from([None, "query", "document"]),
    truncation=st.sampled_from([None, False, True]),
    user=st.none() | TEXTS,
    extra=st.lists(st.tuples(TEXTS, st.binary(max_size=4)), max_size=2).map(tuple),
    plain=st.booleans(),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys(ask, *, space="s", scope="shop/policy/search", generation="g"):
    return cache_entry.keys(ask, space=space, scope=scope, generation=generation)


def entry(vector=b"\0" * 8, **rest) -> cache_entry.Entry:
    told = {"model": "m", "space": "s", "tokens": 2, "made_at": 1000.0, **rest}
    return cache_entry.Entry(vector=vector, **told)


@given(ASKS, TEXTS, ASKS, TEXTS)
def test_keys_agree_exactly_where_all_that_makes_vector_agrees(one, space, other, other_space):
    def content(ask, its_space):
        kind = (ask.model, ask.dimensions, ask.input_type, ask.truncation, its_space, ask.extra)
        return kind, ask.items

    same = content(one, space) == content(other, other_space)
    assert (keys(one, space=space) == keys(other, space=other_space)) is same


def test_parts_of_key_do_not_run_into_each_other():
    one = provider_api.Ask(model="ab", items=("x",))
    other = provider_api.Ask(model="a", items=("x",))
    assert keys(one, space="c") != keys(other, space="bc")


def test_text_is_not_tokens_of_same_bytes():
    text = provider_api.Ask(model="m", items=("\x01\0\0\0",))
    assert keys(text) != keys(provider_api.Ask(model="m", items=((1,),)))


def test_scope_and_generation_part_one_key_from_another():
    ask = provider_api.Ask(model="m", items=("x",))
    several = {keys(ask)[0], keys(ask, scope="shop/shared/x")[0], keys(ask, generation="h")[0]}
    assert len(several) == 3


def test_form_of_key_stays_because_other_pods_read_it():
    digest = hashlib.sha256()
    for part in (b"m", b"None", b"s", b"None", b"None", b"text", b"hi"):
        digest.update(len(part).to_bytes(8, "big") + part)
    expected = f"aos:embedding:cache:shop/policy/search:g:{digest.hexdigest()}"
    assert keys(provider_api.Ask(model="m", items=("hi",))) == [expected]


def encoded(it, *, key) -> bytes:
    return entry_encoding.encode(it, key=key, seal=entry_encoding.Seal())


def memory(max_bytes=10_000, ttl_seconds=60, clock=None):
    return memory_cache.MemoryCache(
        max_bytes=max_bytes, ttl_seconds=ttl_seconds, clock=clock or Clock()
    )


def test_memory_drops_what_was_used_longest_ago():
    room = memory()
    for key in "abc":
        room.put(key, entry())
    held = memory(max_bytes=room.bytes_held)
    for key in "abc":
        held.put(key, entry())
    held.get("a")
    held.put("d", entry())
    assert [key for key in "abcd" if held.get(key)] == ["a", "c", "d"]


def test_entry_larger_than_memory_is_not_kept_and_evicts_nothing():
    held = memory(max_bytes=1000)
    held.put("a", entry())
    held.put("b", entry(b"\0" * 2000))
    assert (held.get("a"), held.get("b")) == (entry(), None)


def test_entry_grows_too_old_by_when_it_was_made():
    clock = Clock()
    held = memory(clock=clock)
    held.put("a", entry(made_at=950.0))
    clock.now = 1009.9
    assert held.get("a")
    clock.now = 1010.0
    assert held.get("a") is None
    assert (len(held), held.bytes_held) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 900)), max_size=30))
def test_bytes_told_are_sum_of_what_is_held_and_within_bound(puts):
    held = memory(max_bytes=3000)
    for key, size in puts:
        held.put(key, entry(b"\0" * size))
    assert held.bytes_held <= 3000
    assert (held.bytes_held == 0) is (len(held) == 0)
    held.forget(None)
    assert (held.bytes_held, len(held)) == (0, 0)


def filled(
    count: int, *, size: int, come: Callable[[cache_entry.Entry], cache_entry.Entry]
) -> memory_cache.MemoryCache:
    held: memory_cache.MemoryCache = memory(max_bytes=10**9)
    space = "OpenAICompatible/http://embedder.models.svc.cluster.local:8080/v1/a-model@default"
    for number in range(count):
        made = entry(os.urandom(size), tokens=10**6 + number, space=space, made_at=1000.0 + number)
        held.put(f"{number:0140d}", come(made))
    return held


def as_made(it: cache_entry.Entry) -> cache_entry.Entry:
    return it


def as_read(it: cache_entry.Entry) -> cache_entry.Entry:
    seal = entry_encoding.Seal(bytes(32))
    raw = entry_encoding.encode(it, key="k", seal=seal)
    read = entry_encoding.decode(raw, key="k", seal=seal, now=it.made_at)
    assert read is not None
    return read


@pytest.mark.parametrize("come", [as_made, as_read])
@pytest.mark.parametrize("dimensions", [64, 256, 1536, 3072])
def test_bytes_told_are_those_process_spends_and_at_most_twentieth_more(dimensions, come):
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = filled(2000, size=dimensions * 4, come=come)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.95 * held.bytes_held < after - before <= held.bytes_held


def private_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def grown(dimensions: int) -> float:
    """Bytes the process grew by, for each byte told."""
    filled(50, size=dimensions * 4, come=as_read)
    gc.collect()
    before = private_bytes()
    held = filled(10_000, size=dimensions * 4, come=as_read)
    gc.collect()
    return (private_bytes() - before) / held.bytes_held


@pytest.mark.parametrize("dimensions", [64, 256, 1536])
def test_process_grows_by_no_more_than_bytes_told(dimensions):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        # A fiftieth: the allocator takes memory by the arena.
        assert fresh.submit(grown, dimensions).result() < 1.02


def test_one_model_is_forgotten_and_others_stay():
    held = memory()
    held.put("a", entry(model="one"))
    held.put("b", entry(model="two"))
    held.forget("one")
    assert (held.get("a"), held.get("b")) == (None, entry(model="two"))


class Store:
    """Redis, as far as a cache knows it; `away` while it cannot be reached."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: set[int] = set()
        self.found: dict[str, str] = {}
        self.away = False
        self.reads: list[list[str]] = []
        self.polls = 0

    def _check(self) -> None:
        if self.away:
            raise errors.StoreAway("away")

    def fetch(self, keys, done):
        if self.away:
            done(errors.StoreAway("away"))
            return
        self.reads.append(list(keys))
        done([self.values.get(key) for key in keys])

    def keep(self, values, *, ttl_seconds, done):
        if not self.away:
            self.values.update(values)
            self.ttls.add(ttl_seconds)
        done(errors.StoreAway("away") if self.away else None)

    async def remove(self, keys):
        self._check()
        for key in keys:
            self.values.pop(key, None)

    async def generation(self, *names):
        self._check()
        return [self.found.get(name) for name in names]

    async def generations(self):
        self._check()
        self.polls += 1
        return dict(self.found)

    async def begin(self, values):
        self._check()
        self.found = {**values, **self.found}

    async def replace(self, values, *, dropped):
        self._check()
        gone = self.found if dropped is None else dropped
        kept = {name: value for name, value in self.found.items() if name not in gone}
        self.found = {**kept, **values}


class Seen:
    def __init__(self) -> None:
        self.lookups: list[tuple[str, int]] = []
        self.misses = 0
        self.tokens_saved: list[tuple[str, int]] = []
        self.errors: list[tuple[str, str]] = []

    def looked_up(self, layer, *, hits, seconds):
        self.lookups.append((layer, hits))

    def missed(self, items):
        self.misses += items

    def saved(self, *, model, tokens):
        self.tokens_saved.append((model, tokens))

    def error(self, kind, provider=""):
        self.errors.append((kind, provider))


class Pod:
    """The cache of one pod."""

    def __init__(self, store=None, ttl_seconds=60) -> None:
        self.seen = Seen()
        self.clock = Clock()
        self.memory = memory(ttl_seconds=ttl_seconds, clock=self.clock)
        self.layers = tiered_cache.TieredCache(
            scope="shop/policy/search",
            ttl_seconds=ttl_seconds,
            memory=self.memory,
            store=store,
            generations=generations.Generations(
                store=store, forget=self.memory.forget, clock=self.clock
            ),
            observe=self.seen,
            clock=self.clock,
        )

    def key(self, text="x", model="m", **more) -> str:
        ask = provider_api.Ask(model=model, items=(text,), **more)
        return self.layers.keys(ask, space="s")[0]

    def get(self, *keys, **asked):
        return asyncio.run(self.layers.get_many(keys, **asked))

    def put(self, key, value=None, **asked):
        self.layers.put_many({key: value or entry()}, **asked)

    def refresh(self):
        asyncio.run(self.layers.refresh())

    def clear(self, model=None):
        asyncio.run(self.layers.generations.clear(model))

    def clear_texts(self, *texts, model=None):
        ask = provider_api.Ask(model=model or "m", items=texts)
        asyncio.run(self.layers.clear_items([(ask, "s")], model=model))


@pytest.fixture
def store():
    return Store()


def test_entry_of_one_pod_is_found_by_another_and_kept_in_memory(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    one.put(one.key())
    assert other.get(other.key(), "missing") == [entry(), None]
    assert other.get(other.key()) == [entry()]
    assert other.seen.lookups == [("memory", 0), ("redis", 1), ("memory", 1)]
    assert other.seen.misses == 1
    assert store.ttls == {60}
    stats = other.layers.stats()
    assert (stats["hits"], stats["misses"]) == ({"memory": 1, "redis": 1}, 1)


def test_saved_tokens_are_told_by_model():
    pod = Pod()
    for model, tokens in (("m", 2), ("n", 3), ("m", 5)):
        pod.layers.saved(tokens, model=model)
    assert pod.layers.stats()["tokens_saved"] == 10
    assert pod.layers.tokens_saved == {"m": 7, "n": 3}
    assert pod.seen.tokens_saved == [("m", 2), ("n", 3), ("m", 5)]


def test_only_what_memory_lacks_is_asked_of_redis(store):
    pod = Pod(store)
    pod.memory.put("a", entry())
    pod.get("a", "b", "c")
    assert store.reads == [["b", "c"]]


def test_redis_that_is_away_is_miss_and_is_counted(store):
    pod = Pod(store)
    store.away = True
    pod.put("a")
    assert pod.get("a", "b") == [entry(), None]
    assert pod.seen.errors == [("cache", ""), ("cache", "")]
    assert pod.layers.store_state == "away"


class ReadOnly(Store):
    """A store whose user may read, and not write."""

    refuses = True

    def keep(self, values, *, ttl_seconds, done):
        if self.refuses:
            done(errors.StoreRefuses("NOPERM: the user's right +set is missing"))
        else:
            super().keep(values, ttl_seconds=ttl_seconds, done=done)


def test_redis_that_refuses_one_thing_refuses_until_it_does_it(caplog):
    """B9: what it gives are hits all the while."""
    store = ReadOnly()
    pod = Pod(store)
    for key in "abc":
        pod.put(key)
        assert pod.get(f"not {key}") == [None]
        assert pod.layers.store_state == "refuses: NOPERM: the user's right +set is missing"
    assert pod.seen.errors == [("cache_refused", "")] * 3
    assert [it.message for it in caplog.records] == [
        "cache: the store refuses to write: NOPERM: the user's right +set is missing"
    ]
    store.refuses = False
    pod.put("d")
    assert pod.layers.store_state == "ok"
    store.away = True
    pod.put("e")
    assert pod.layers.store_state == "away"


def test_redis_that_refuses_and_then_is_away_is_away():
    """B9, a sibling."""
    store = ReadOnly()
    pod = Pod(store)
    pod.put("a")
    store.refuses, store.away = False, True
    pod.put("b")
    assert pod.layers.store_state == "away"


def look_up(pod, keys, done, **rest):
    """A look into memory, and on from there."""
    pod.layers.look_up(keys, pod.layers.cached_answers(keys, **rest), done, **rest)


def test_look_up_is_answered_at_once_where_no_store_needs_to_be_asked(store, monkeypatch):
    monkeypatch.delattr(Store, "fetch")
    told: list[list[cache_entry.Entry | None]] = []
    pod, alone, keeping_nothing = Pod(store), Pod(), Pod(store, ttl_seconds=0)
    pod.put("a")
    look_up(pod, ["a", "a"], told.append)
    look_up(alone, ["a"], told.append)
    look_up(keeping_nothing, ["a"], told.append)
    assert told == [[entry(), entry()], [None], [None]]


def test_look_up_is_answered_once_store_has_answered(store, monkeypatch):
    told: list[list[cache_entry.Entry | None]] = []
    asked: list[Callable[[list[bytes | None] | errors.StoreAway], None]] = []
    monkeypatch.setattr(store, "fetch", lambda keys, done: asked.append(done))
    pod = Pod(store)
    for _ in range(2):
        look_up(pod, ["a", "b"], told.append, max_age_seconds=19)
    assert told == []
    fresh, old = (
        encoded(entry(made_at=made_at), key=key) for key, made_at in (("a", 985.0), ("b", 980.0))
    )
    asked[0]([fresh, old])
    asked[1](errors.StoreAway("away"))
    assert told == [[entry(made_at=985.0), None], [None, None]]
    assert pod.seen.lookups == [("memory", 0)] * 2 + [("redis", 1), ("redis", 0)]
    assert pod.seen.misses == 3
    assert pod.seen.errors == [("cache", "")]


def test_cancelled_reader_is_told_nothing(store, monkeypatch):
    asked: list[Callable[[list[bytes | None] | errors.StoreAway], None]] = []
    monkeypatch.setattr(store, "fetch", lambda keys, done: asked.append(done))
    pod = Pod(store)

    async def leave():
        waiting = asyncio.ensure_future(pod.layers.get_many(["a"]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        asked[0]([None])

    asyncio.run(leave())
    assert pod.seen.misses == 1


def test_memory_of_no_bytes_keeps_nothing():
    held = memory(max_bytes=0)
    held.put("a", entry())
    assert (len(held), held.bytes_held) == (0, 0)


def test_entry_says_nothing_of_its_vector():
    assert "secret" not in repr(entry(b"secret"))


def test_spoilt_entry_is_miss(store):
    pod = Pod(store)
    store.values["a"] = encoded(entry(), key="a")[:-1]
    assert pod.get("a") == [None]
    assert pod.seen.errors == [("cache_entry", "")]
    assert pod.seen.misses == 1


def test_entry_of_redis_is_no_younger_in_memory(store):
    pod = Pod(store)
    store.values["a"] = encoded(entry(made_at=950.0), key="a")
    assert pod.get("a")[0]
    pod.clock.now = 1010.0
    assert pod.get("a") == [None]


def test_entry_older_than_max_age_is_miss_and_stays(store):
    pod, other = Pod(store), Pod(store)
    pod.put("a", entry(made_at=980.0))
    assert pod.get("a", max_age_seconds=19) == [None]
    assert other.get("a", max_age_seconds=19) == [None]
    assert [it.get("a", max_age_seconds=20)[0] for it in (pod, other)] == [entry(made_at=980.0)] * 2
    assert (pod.seen.misses, pod.seen.errors) == (1, [])


def test_newer_entry_of_another_pod_is_found_when_memory_is_too_old(store):
    pod, other = Pod(store), Pod(store)
    pod.put("a", entry(made_at=980.0))
    other.put("a", entry(made_at=999.0))
    assert pod.get("a", max_age_seconds=5) == [entry(made_at=999.0)]
    assert pod.memory.get("a") == entry(made_at=999.0)


def test_request_shortens_how_long_its_answer_is_kept_in_both_layers(store):
    pod, other = Pod(store), Pod(store)
    pod.put("a", ttl_seconds=10)
    assert store.ttls == {10}
    pod.clock.now = other.clock.now = 1009.9
    assert pod.get("a") == other.get("a") == [entry(ttl_seconds=10)]
    pod.clock.now = other.clock.now = 1010.0
    assert pod.get("a") == other.get("a") == [None]


def test_no_request_lengthens_how_long_its_answer_is_kept(store):
    pod = Pod(store)
    pod.put("a", ttl_seconds=10**6)
    assert store.ttls == {60}
    pod.clock.now = 1060.0
    assert pod.get("a") == [None]


def test_request_may_forbid_keeping(store):
    pod = Pod(store)
    pod.put("a", ttl_seconds=0)
    assert (store.values, len(pod.memory)) == ({}, 0)


def test_zero_ttl_keeps_nothing_and_asks_no_store(store):
    pod = Pod(store, ttl_seconds=0)
    pod.put("a")
    assert pod.get("a") == [None]
    assert (store.values, store.reads, len(pod.memory)) == ({}, [], 0)


def test_clearing_empties_every_pod_once_it_looks(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    one.put(one.key())
    other.get(other.key())
    one.clear()
    assert one.get(one.key()) == [None]
    assert other.get(other.key()) == [entry()]
    other.refresh()
    assert other.get(other.key()) == [None]
    assert other.key() == one.key()
    assert len(other.memory) == 0


def test_clearing_one_model_leaves_others(store):
    pod = Pod(store)
    pod.refresh()
    for model in ("one", "two"):
        pod.put(pod.key(model=model), entry(model=model))
    pod.clear("one")
    assert pod.get(pod.key(model="one"), pod.key(model="two")) == [None, entry(model="two")]
    assert len(pod.memory) == 1


def test_entry_written_under_old_generation_is_not_found(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key()
    pod.clear()
    pod.put(before)
    assert pod.get(pod.key()) == [None]


def test_clear_without_redis_reply_is_refused_and_clears_nothing(store):
    pod = Pod(store)
    pod.refresh()
    pod.put(pod.key())
    store.away = True
    with pytest.raises(errors.Unavailable) as caught:
        pod.clear()
    assert caught.value.status == 503
    assert pod.get(pod.key()) == [entry()]


def test_clear_without_redis_clears_memory():
    pod = Pod()
    pod.put(pod.key())
    pod.refresh()
    pod.clear()
    assert pod.get(pod.key()) == [None]
    assert pod.layers.store_state == "none"


def test_redis_that_forgot_generations_brings_nothing_back(store):
    pod = Pod(store)
    pod.refresh()
    cleared = pod.key()
    pod.clear("m")
    store.found.clear()
    pod.refresh()
    assert pod.key() != cleared
    fresh = Pod(store)
    fresh.refresh()
    assert fresh.key() == pod.key()


def test_pods_that_start_together_agree_on_generation(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    one.refresh()
    assert one.key() == other.key()


def test_redis_that_is_away_leaves_last_known_generation_in_force(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key()
    store.away = True
    pod.refresh()
    assert pod.key() == before
    assert pod.seen.errors == [("cache", "")]


# --- by text


def test_text_is_forgotten_in_every_form_and_others_stay(store):
    pod = Pod(store)
    pod.refresh()
    forms: list[dict[str, Any]] = [
        {},
        {"dimensions": 7},
        {"input_type": "query"},
        {"truncation": True},
    ]
    cleared = [pod.key(**form) for form in forms]
    other = pod.key("y")
    for key in (*cleared, other):
        pod.put(key)
    pod.clear_texts("x")
    assert pod.get(*(pod.key(**form) for form in forms)) == [None] * 4
    assert pod.key("y") == other
    assert pod.get(other) == [entry()]
    # What can be named is gone, not only out of reach.
    assert cleared[0] not in store.values
    assert len(pod.memory) == 4


def test_other_pods_forget_text_once_they_look(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    one.put(one.key())
    other.get(other.key())
    one.clear_texts("x")
    assert other.get(other.key()) == [entry()]
    other.refresh()
    assert other.get(other.key()) == [None]
    assert other.key() == one.key()


def test_request_under_way_does_not_bring_cleared_text_back(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key()
    pod.clear_texts("x")
    pod.put(before)
    assert pod.get(pod.key()) == [None]


def test_text_may_be_forgotten_for_one_model(store):
    pod = Pod(store)
    pod.refresh()
    kept = pod.key(model="n")
    before = pod.key()
    pod.clear_texts("x", model="m")
    assert pod.key() != before
    assert pod.key(model="n") == kept


@given(st.lists(st.sampled_from([None, "m", "n"]), max_size=6))
def test_text_cleared_for_all_or_one_model_never_comes_back_to_key_it_had(clears):
    pod = Pod(Store())
    pod.refresh()
    seen = {model: {pod.key(model=model)} for model in ("m", "n")}
    for cleared in clears:
        pod.clear_texts("x", model=cleared)
        for model, keys in seen.items():
            key = pod.key(model=model)
            assert (key in keys) is (cleared not in (None, model))
            keys.add(key)


def test_pod_without_redis_forgets_text():
    pod = Pod()
    pod.put(pod.key())
    pod.clear_texts("x")
    assert pod.get(pod.key()) == [None]
    assert len(pod.memory) == 0


def test_text_that_redis_does_not_hear_of_is_not_cleared(store):
    pod = Pod(store)
    pod.refresh()
    pod.put(pod.key())
    store.away = True
    with pytest.raises(errors.Unavailable) as caught:
        pod.clear_texts("x")
    assert caught.value.status == 503
    assert pod.get(pod.key()) == [entry()]


def test_list_of_texts_that_is_full_clears_all(store):
    pod, other = Pod(store), Pod(store)
    for it in (pod, other):
        it.refresh()
    before = pod.key("never named")
    pod.clear_texts(*(f"text {number}" for number in range(generations.MAX_TEXTS)))
    assert pod.key("never named") == before
    pod.clear_texts("one more")
    assert pod.key("never named") != before
    assert len(store.found) == 2
    other.refresh()
    assert other.key("never named") == pod.key("never named")


def test_text_is_remembered_until_nothing_older_can_be_left(store):
    pod = Pod(store)
    pod.refresh()
    old = pod.key()
    pod.clear_texts("x")
    pod.clock.now += cache_entry.MAX_TTL_SECONDS + 86_000
    pod.clear_texts("y")
    assert pod.key() != old
    pod.clock.now += 1000
    pod.clear_texts("z")
    assert pod.key() == old
    assert len(store.found) == 4


def test_clearing_all_forgets_list(store):
    pod = Pod(store)
    pod.refresh()
    pod.clear_texts("x", "y")
    pod.clear("m")
    pod.clear()
    assert len(store.found) == 2


def test_refresh_reads_all_generations_only_after_change(store):
    one, other = Pod(store), Pod(store)
    for it in (one, other, one, other):
        it.refresh()
    polls = store.polls
    one.refresh()
    other.refresh()
    assert store.polls == polls
    one.clear_texts("x")
    other.refresh()
    one.refresh()
    assert one.key() == other.key()
    # Once to clear, and once for each.
    assert store.polls == polls + 3


def test_clearings_of_two_pods_at_once_are_obeyed_by_both(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    first, second = one.key(model="m"), one.key(model="n")
    read = store.generations

    async def as_the_other_clears():
        found = await read()
        store.generations = read
        await other.layers.generations.clear("n")
        return found

    store.generations = as_the_other_clears
    one.clear("m")
    one.refresh()
    other.refresh()
    assert one.key(model="m") == other.key(model="m") != first
    assert one.key(model="n") == other.key(model="n") != second


def test_clearing_what_redis_has_forgotten_clears_all(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key("y")
    store.found.clear()
    pod.clear_texts("x")
    assert pod.key("y") != before
    other = Pod(store)
    other.refresh()
    assert other.key("y") == pod.key("y")


@given(ITEMS, ITEMS)
def test_name_says_nothing_of_text_and_tells_texts_apart(one, other):
    assert (cache_entry.name(one) == cache_entry.name(other)) is (one == other)
    assert len(cache_entry.name(one)) == 16
