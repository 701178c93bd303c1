"""A real Redis in each form: alone, by socket, with a password, TLS, Cluster, Sentinel."""

import asyncio
import contextlib
import inspect
import signal
import time
from collections.abc import Iterator

import pytest
import uvloop

from embedding_sidecar import errors
from embedding_sidecar.quota import quota_store
from embedding_sidecar.quota.periods import DAY_SECONDS
from embedding_sidecar.redis_client import redis_url
from tests.contract import test_quota_store as quota_cases
from tests.parts import awaited, ports, redis_forms

pytestmark = pytest.mark.integration

SCOPE = "shop/policy/search"
PATIENT = 20.0
"""Seconds; a budget that a busy machine keeps too."""
TURNS = 5
MANY = [f"aos:embedding:cache:{SCOPE}:g:{number:064d}" for number in range(60)]
FORMS = ["socket", "password", "tls", "cluster", "sentinel"]


@pytest.fixture(scope="module", params=FORMS)
def url(request, tmp_path_factory) -> Iterator[str]:
    with redis_forms.running(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


def run(url, use, *, budget_seconds=PATIENT):
    """The outcome of `use(store)`, the store closed afterwards."""

    async def whole():
        client = redis_url.connect(url)
        store = awaited.RedisCache(
            client,
            scope=SCOPE,
            budget_seconds=budget_seconds,
            management_budget_seconds=PATIENT,
        )
        try:
            return await use(store)
        finally:
            await store.close()

    # As the sidecar does; the other loop serves test_redis_cache.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def flush(url):
    async def use():
        client = redis_url.connect(url)
        await client.flushall()
        await client.aclose()

    asyncio.run(use())


async def again_and_again(attempt, is_right):
    """Until an attempt comes to what is right; Redis may be away in between."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await attempt()
            except errors.StoreAway:
                found = None
            if found is not None and is_right(found):
                return found
            await asyncio.sleep(0.05)


# --- each form


def test_values_are_read_in_order_of_keys(url):
    async def use(store):
        await store.write(dict.fromkeys(MANY, b"\0\xff"), ttl_seconds=60)
        found = await store.read([*MANY, "missing", MANY[0]])
        await store.remove(MANY[1:])
        return found, await store.read(MANY)

    found, left = run(url, use)
    assert found == [b"\0\xff"] * len(MANY) + [None, b"\0\xff"]
    assert left == [b"\0\xff"] + [None] * (len(MANY) - 1)


def test_value_of_another_type_is_miss_and_spoils_no_other(url):
    flush(url)

    async def use(store):
        await store.write(dict.fromkeys(MANY[1:], b"x"), ttl_seconds=60)
        await store._client.rpush(MANY[0], "a list")
        return await store.read(MANY)

    assert run(url, use) == [None] + [b"x"] * (len(MANY) - 1)


def test_generations_are_kept(url):
    flush(url)

    async def use(store):
        await store.generations.begin({"": "one", "n": "one"})
        await store.generations.begin({"": "two"})
        await store.generations.replace({"m": "two"}, dropped=["n"])
        return await store.generations.generations(), await store.generations.generation("m", "n")

    assert run(url, use) == ({"": "one", "m": "two"}, ["two", None])


def test_entries_expire(url):
    async def use(store):
        await store.write(dict.fromkeys(MANY, b"x"), ttl_seconds=100)
        return [await store._client.pttl(key) for key in MANY]

    assert all(0 < left <= 100_000 for left in run(url, use))


CASES = [
    case
    for name, case in vars(quota_cases).items()
    if name.startswith("test_") and set(inspect.signature(case).parameters) <= {"store", "today"}
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_quota_is_counted_as_in_one_redis(url, case):
    known = {"store": quota_cases.InRedis(url), "today": int(time.time() // DAY_SECONDS)}
    case(**{name: known[name] for name in inspect.signature(case).parameters})


def test_durability_of_redis_is_told_from_its_settings(url):
    told = quota_cases.InRedis(url).with_store(quota_store.RedisStore.durability)
    assert "appendonly is no, not yes" in told


# --- Cluster


@pytest.fixture
def many(tmp_path) -> Iterator[redis_forms.Cluster]:
    made = redis_forms.Cluster(tmp_path)
    try:
        yield made.join()
    finally:
        made.kill()


def reads(asked) -> int:
    """How often these servers have read from a connection so far, this time included."""
    return sum(it.info("stats")["total_reads_processed"] for it in asked)


def test_keys_of_all_requests_of_turn_are_one_round_trip_to_each_node(many):
    nodes = many.primaries()
    assert len(nodes) == 3

    async def use(store):
        await store.write(dict.fromkeys(MANY, b"x"), ttl_seconds=60)
        with contextlib.ExitStack() as stack:
            asked = [stack.enter_context(node.client()) for node in nodes]
            turns = []
            for _ in range(TURNS):
                before = reads(asked)
                found = await asyncio.gather(*(store.read(MANY[at:]) for at in range(20)))
                turns.append(reads(asked) - before - len(nodes))
            return found, turns

    found, turns = run(many.url, use)
    assert [len(it) for it in found] == [len(MANY) - at for at in range(20)]
    assert all(value == b"x" for values in found for value in values)
    # A node also reads what its replica acknowledges, once a second: in some turn, but not in all.
    assert min(turns) == len(nodes)


def test_killed_node_loses_its_keys_until_another_replaces_it(many):
    lost = many.holder(MANY[0])

    async def use(store):
        await store.write(dict.fromkeys(MANY, b"x"), ttl_seconds=60)
        # Until the replicas have it all.
        await asyncio.sleep(0.5)
        lost.kill()
        while_gone = await store.read(MANY)
        with pytest.raises(errors.StoreAway):
            await store.read([MANY[0]])
        return while_gone, await again_and_again(lambda: store.read(MANY), all)

    while_gone, after = run(many.url, use)
    assert while_gone[0] is None
    assert while_gone.count(b"x") > len(MANY) / 3
    assert after == [b"x"] * len(MANY)


def test_node_that_stalls_keeps_nobody_from_keys_of_others(many):
    stalled = many.holder(MANY[0])

    async def use(store):
        await store.write(dict.fromkeys(MANY, b"x"), ttl_seconds=60)
        await asyncio.sleep(0.5)
        stalled.process.send_signal(signal.SIGSTOP)
        try:
            while_stalled = await store.read(MANY)
            after = await again_and_again(lambda: store.read(MANY), all)
        finally:
            stalled.process.send_signal(signal.SIGCONT)
        return while_stalled, after

    while_stalled, after = run(many.url, use, budget_seconds=0.5)
    assert while_stalled[0] is None
    assert while_stalled.count(b"x") > len(MANY) / 3
    assert after == [b"x"] * len(MANY)


def test_key_whose_slot_moves_is_miss_and_is_found_where_it_comes_to(many):
    source = many.holder(MANY[0])
    target = next(node for node in many.primaries() if node is not source)

    async def use(store):
        await store.write(dict.fromkeys(MANY, b"x"), ttl_seconds=60)
        with source.client() as giving, target.client() as taking:
            slot = giving.execute_command("CLUSTER KEYSLOT", MANY[0])
            give, take = (it.execute_command("CLUSTER MYID").decode() for it in (giving, taking))
            taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", give)
            giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", take)
            giving.migrate("127.0.0.1", target.port, MANY[0], 0, 5000)
            meanwhile = await store.read(MANY)
            for asked in (taking, giving):
                asked.execute_command("CLUSTER SETSLOT", slot, "NODE", take)
        return meanwhile, await store.read(MANY)

    assert run(many.url, use) == ([None, *[b"x"] * (len(MANY) - 1)], [b"x"] * len(MANY))


def test_cluster_that_is_not_there_is_away():
    gone = f"redis+cluster://127.0.0.1:{ports.free()}"

    async def use(store):
        for attempt in (store.read(["a"]), store.write({"a": b"1"}, ttl_seconds=1)):
            with pytest.raises(errors.StoreAway):
                await attempt
        with pytest.raises(errors.StoreAway):
            await store.generations.generations()
        async with quota_cases.opened(store._client) as counting:
            with pytest.raises(errors.StoreAway):
                await counting.claim(quota_cases.ask(1))

    run(gone, use)


# --- Sentinel


def test_successor_of_killed_server_is_used(tmp_path):
    watched = redis_forms.Sentinels(tmp_path)

    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        with watched.first.client() as asked:
            assert asked.wait(1, 20_000) == 1
        watched.first.kill()
        with pytest.raises(errors.StoreAway):
            await store.read(["a"])
        found = await again_and_again(lambda: store.read(["a"]), all)

        async def written():
            await store.write({"b": b"2"}, ttl_seconds=60)
            return await store.read(["b"])

        return found + await again_and_again(written, all)

    try:
        assert run(watched.url, use) == [b"1", b"2"]
    finally:
        watched.kill()


def test_sentinel_that_is_gone_is_passed_over(tmp_path):
    watched = redis_forms.Sentinels(tmp_path)
    watched.sentinels[0].kill()

    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        return await store.read(["a"])

    try:
        assert run(watched.url, use) == [b"1"]
    finally:
        watched.kill()


# --- TLS


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory) -> Iterator[redis_forms.Encrypted]:
    made = redis_forms.Encrypted(tmp_path_factory.mktemp("tls"))
    yield made
    made.kill()


def told(url):
    async def use(store):
        await store.write({"a": b"1"}, ttl_seconds=60)
        return await store.read(["a"])

    return run(url, use)


def test_private_authority_is_trusted_where_environment_names_it(encrypted, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.authority))
    assert told(encrypted.url.partition("?")[0]) == [b"1"]


def test_authority_that_nobody_named_is_not_trusted(encrypted):
    with pytest.raises(errors.StoreAway):
        told(encrypted.url.partition("?")[0])


def test_certificate_for_another_name_is_not_trusted(encrypted):
    with pytest.raises(errors.StoreAway):
        told(encrypted.by_number)


def test_url_that_disables_certificate_checks_is_obeyed(encrypted):
    assert told(f"{encrypted.by_number}&ssl_cert_reqs=none") == [b"1"]


def test_authority_whose_file_is_missing_is_store_that_is_away(encrypted):
    with pytest.raises(errors.StoreAway):
        told(encrypted.url.replace(str(encrypted.authority), "/nowhere/authority.pem"))


@pytest.mark.parametrize("form", ["cluster", "sentinel"])
def test_nodes_and_sentinels_speak_tls_too(tmp_path, form):
    made = redis_forms.Encrypted(tmp_path, form=form)
    # A node and a Sentinel tell where a server is by number, which is not in its certificate.
    by_number = f"{made.url}&ssl_check_hostname=false"
    try:
        for url, is_trusted in (
            (by_number, True),
            (made.url, False),
            (by_number.replace(str(made.authority), "/nowhere"), False),
        ):
            if is_trusted:
                assert told(url) == [b"1"]
            else:
                with pytest.raises(errors.StoreAway):
                    told(url)
    finally:
        made.kill()


def test_wrong_password_is_store_that_is_away(tmp_path):
    with redis_forms.running(tmp_path, "password") as right:
        wrong = right.replace(redis_forms.PASSWORD, "another")
        with pytest.raises(errors.StoreAway) as caught:
            told(wrong)
    assert "another" not in f"{caught.value!r} {caught.value.__cause__!r}"
