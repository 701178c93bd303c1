"""The cache: names of entries, their bytes, and what memory keeps."""

import asyncio
import gc
import hashlib
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import cache, errors, generations, layers, provider

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ITEMS = TEXTS | st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(tuple)
ASKS = st.builds(
    provider.Ask,
    model=TEXTS,
    items=st.tuples(ITEMS),
    dimensions=st.none() | st.integers(1, 9999),
    input_type=st.sampled_from([None, "query", "document"]),
    truncation=st.sampled_from([None, False, True]),
    user=st.none() | TEXTS,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys(ask, *, space="s", scope="shop/policy/search", generation="g"):
    return cache.keys(ask, space=space, scope=scope, generation=generation)


def entry(vector=b"\0" * 8, **rest) -> cache.Entry:
    told = {"model": "m", "space": "s", "tokens": 2, "made_at": 1000.0, **rest}
    return cache.Entry(vector=vector, **told)


@given(ASKS, TEXTS, ASKS, TEXTS)
def test_keys_agree_exactly_where_all_that_makes_a_vector_agrees(one, space, other, other_space):
    def content(ask, its_space):
        return (ask.model, ask.items, ask.dimensions, ask.input_type, ask.truncation, its_space)

    same = content(one, space) == content(other, other_space)
    assert (keys(one, space=space) == keys(other, space=other_space)) is same


def test_parts_of_a_key_do_not_run_into_each_other():
    one = provider.Ask(model="ab", items=("x",))
    other = provider.Ask(model="a", items=("x",))
    assert keys(one, space="c") != keys(other, space="bc")


def test_a_text_is_not_the_tokens_of_the_same_bytes():
    text = provider.Ask(model="m", items=("\x01\0\0\0",))
    assert keys(text) != keys(provider.Ask(model="m", items=((1,),)))


def test_scope_and_generation_part_one_key_from_another():
    ask = provider.Ask(model="m", items=("x",))
    several = {keys(ask)[0], keys(ask, scope="shop/shared/x")[0], keys(ask, generation="h")[0]}
    assert len(several) == 3


def test_the_form_of_a_key_stays_because_other_pods_read_it():
    digest = hashlib.sha256()
    for part in (b"m", b"None", b"s", b"None", b"None", b"text", b"hi"):
        digest.update(len(part).to_bytes(8, "big") + part)
    expected = f"aos:embedding:cache:shop/policy/search:g:{digest.hexdigest()}"
    assert keys(provider.Ask(model="m", items=("hi",))) == [expected]


@given(st.binary(min_size=4), TEXTS, TEXTS, st.integers(0, 2**40), st.floats(0, 1e10))
def test_an_entry_comes_back_as_it_was(vector, model, space, tokens, made_at):
    before = entry(vector, model=model, space=space, tokens=tokens, made_at=made_at)
    after = cache.decode(cache.encode(before))
    assert after == entry(
        vector, model=model, space=space, tokens=min(tokens, 2**32 - 1), made_at=made_at
    )


@given(st.binary(max_size=100))
def test_bytes_that_are_no_entry_are_none(raw):
    assert cache.decode(raw) is None


@given(st.data())
def test_an_entry_that_was_cut_or_changed_is_none(data):
    raw = cache.encode(entry())
    at = data.draw(st.integers(0, len(raw) - 1))
    flipped = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    assert cache.decode(raw[:at]) is None
    assert cache.decode(flipped) is None


def memory(max_bytes=10_000, ttl_seconds=60, clock=None):
    return cache.MemoryCache(max_bytes=max_bytes, ttl_seconds=ttl_seconds, clock=clock or Clock())


def test_memory_drops_what_was_used_longest_ago():
    held = memory(max_bytes=3 * 410)
    for key in "abc":
        held.put(key, entry())
    held.get("a")
    held.put("d", entry())
    assert [key for key in "abcd" if held.get(key)] == ["a", "c", "d"]


def test_what_is_larger_than_all_memory_is_not_kept_and_drives_nothing_out():
    held = memory(max_bytes=1000)
    held.put("a", entry())
    held.put("b", entry(b"\0" * 2000))
    assert (held.get("a"), held.get("b")) == (entry(), None)


def test_an_entry_grows_too_old_by_when_it_was_made():
    clock = Clock()
    held = memory(clock=clock)
    held.put("a", entry(made_at=950.0))
    clock.now = 1009.9
    assert held.get("a")
    clock.now = 1010.0
    assert held.get("a") is None
    assert (len(held), held.bytes_held) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 900)), max_size=30))
def test_the_bytes_told_are_the_sum_of_what_is_held_and_within_the_bound(puts):
    held = memory(max_bytes=3000)
    for key, size in puts:
        held.put(key, entry(b"\0" * size))
    assert held.bytes_held <= 3000
    assert (held.bytes_held == 0) is (len(held) == 0)
    held.forget(None)
    assert (held.bytes_held, len(held)) == (0, 0)


@pytest.mark.parametrize("come", [lambda it: it, lambda it: cache.decode(cache.encode(it))])
def test_the_bytes_told_are_not_less_than_the_process_spends(come):
    held = memory(max_bytes=10**9)
    space = "OpenAICompatible/http://embedder.models.svc.cluster.local:8080/v1/a-model@default"
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            made = entry(os.urandom(1000), tokens=10**6 + number, space=space)
            held.put(f"{number:0140d}", come(made))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * held.bytes_held < after - before <= held.bytes_held


def test_one_model_is_forgotten_and_the_others_stay():
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

    def _check(self) -> None:
        if self.away:
            raise errors.StoreAway("away")

    async def read(self, keys):
        self._check()
        self.reads.append(list(keys))
        return [self.values.get(key) for key in keys]

    async def write(self, values, *, ttl_seconds):
        self._check()
        self.values.update(values)
        self.ttls.add(ttl_seconds)

    async def generations(self):
        self._check()
        return dict(self.found)

    async def set_generation(self, name, value, *, only_if_missing):
        self._check()
        if only_if_missing:
            self.found.setdefault(name, value)
        else:
            self.found[name] = value


class Seen:
    def __init__(self) -> None:
        self.lookups: list[tuple[str, int]] = []
        self.misses = 0
        self.errors: list[tuple[str, str]] = []

    def looked_up(self, layer, *, hits, seconds):
        self.lookups.append((layer, hits))

    def missed(self, items):
        self.misses += items

    def error(self, kind, provider=""):
        self.errors.append((kind, provider))


class Pod:
    """The cache of one pod."""

    def __init__(self, store=None, ttl_seconds=60) -> None:
        self.seen = Seen()
        self.clock = Clock()
        self.memory = memory(ttl_seconds=ttl_seconds, clock=self.clock)
        self.layers = layers.Layers(
            scope="shop/policy/search",
            ttl_seconds=ttl_seconds,
            memory=self.memory,
            store=store,
            generations=generations.Generations(store=store, forget=self.memory.forget),
            observe=self.seen,
            clock=self.clock,
        )

    def key(self, text="x", model="m") -> str:
        ask = provider.Ask(model=model, items=(text,))
        return self.layers.keys(ask, space="s")[0]

    def get(self, *keys):
        return asyncio.run(self.layers.get_many(keys))

    def put(self, key, value=None):
        asyncio.run(self.layers.put_many({key: value or entry()}))

    def refresh(self):
        asyncio.run(self.layers.refresh())

    def clear(self, model=None):
        asyncio.run(self.layers.clear(model))


@pytest.fixture
def store():
    return Store()


def test_what_one_pod_stored_another_finds_and_then_has_in_memory(store):
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


def test_only_what_memory_lacks_is_asked_of_redis(store):
    pod = Pod(store)
    pod.memory.put("a", entry())
    pod.get("a", "b", "c")
    assert store.reads == [["b", "c"]]


def test_a_redis_that_is_away_is_a_miss_and_is_counted(store):
    pod = Pod(store)
    store.away = True
    pod.put("a")
    assert pod.get("a", "b") == [entry(), None]
    assert pod.seen.errors == [("cache", ""), ("cache", "")]
    assert pod.layers.store_state == "away"


def test_a_spoilt_entry_is_a_miss(store):
    pod = Pod(store)
    store.values["a"] = cache.encode(entry())[:-1]
    assert pod.get("a") == [None]
    assert pod.seen.errors == []


def test_an_entry_of_redis_is_no_younger_in_memory(store):
    pod = Pod(store)
    store.values["a"] = cache.encode(entry(made_at=950.0))
    assert pod.get("a")[0]
    pod.clock.now = 1010.0
    assert pod.get("a") == [None]


def test_a_ttl_of_nothing_keeps_nothing_and_asks_nobody(store):
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


def test_clearing_one_model_leaves_the_others(store):
    pod = Pod(store)
    pod.refresh()
    for model in ("one", "two"):
        pod.put(pod.key(model=model), entry(model=model))
    pod.clear("one")
    assert pod.get(pod.key(model="one"), pod.key(model="two")) == [None, entry(model="two")]
    assert len(pod.memory) == 1


def test_what_is_written_under_an_old_generation_is_found_by_nobody(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key()
    pod.clear()
    pod.put(before)
    assert pod.get(pod.key()) == [None]


def test_a_clear_that_redis_does_not_hear_is_refused_and_clears_nothing(store):
    pod = Pod(store)
    pod.refresh()
    pod.put(pod.key())
    store.away = True
    with pytest.raises(errors.Unavailable) as caught:
        pod.clear()
    assert caught.value.status == 503
    assert pod.get(pod.key()) == [entry()]


def test_without_redis_memory_is_cleared():
    pod = Pod()
    pod.put(pod.key())
    pod.refresh()
    pod.clear()
    assert pod.get(pod.key()) == [None]
    assert pod.layers.store_state == "none"


def test_a_redis_that_forgot_the_generations_brings_nothing_back(store):
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


def test_pods_that_start_together_agree_on_a_generation(store):
    one, other = Pod(store), Pod(store)
    one.refresh()
    other.refresh()
    one.refresh()
    assert one.key() == other.key()


def test_a_redis_that_is_away_leaves_the_last_known_generation_in_force(store):
    pod = Pod(store)
    pod.refresh()
    before = pod.key()
    store.away = True
    pod.refresh()
    assert pod.key() == before
    assert pod.seen.errors == [("cache", "")]
