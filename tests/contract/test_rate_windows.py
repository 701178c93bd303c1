"""A window in memory and the script in a real Redis draw the same, whatever happened before."""

import asyncio
import itertools
import re
from pathlib import Path

import pytest
import redis as client_of_redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.rate import window, window_script, window_store
from embedding_sidecar.rate.window import BUCKET_MS, WINDOW_MS, Message, Need, Terms, Window
from embedding_sidecar.redis_client import redis_url
from tests.parts import ports, redis_forms, sidecar

pytestmark = pytest.mark.integration

KEY = window.key("team/policy", "main")
START_MS = 1_800_000_000_000
AT_A_TIME = window_script.DRAW.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
"""The script, with a clock that the test sets: two further arguments, as TIME answers."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


@pytest.fixture(scope="module")
def client(server):
    with client_of_redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty(client):
    client.flushall()


def words_at(message: Message, now_ms: int) -> list[str | int]:
    return [*window_store.words(message), now_ms // 1000, now_ms % 1000 * 1000]


class Both:
    """The same window twice: in memory, and in Redis."""

    def __init__(self, client, terms: Terms) -> None:
        client.flushall()
        self.client = client
        self.script = client.register_script(AT_A_TIME)
        self.memory = Window()
        self.terms = terms
        self.now_ms = START_MS
        self.sequence = itertools.count(1)
        self.draws: list[tuple[int, int, int]] = []
        """Time of each draw, its calls and tokens, less what was given back."""

    def draw(self, needs: list[Need], returns: dict[int, tuple[int, int]] | None = None):
        returns = returns or {}
        self.memory.draw([], self.terms, now_ms=self.now_ms)
        for bucket, (calls, tokens) in returns.items():
            self.memory.give_back(bucket * BUCKET_MS, calls=calls, tokens=tokens)
        expected = self.memory.draw(needs, self.terms, now_ms=self.now_ms)
        message = Message(KEY, "pod", next(self.sequence), self.terms, needs, returns)
        answer = self.script(keys=[KEY], args=words_at(message, self.now_ms))
        assert answer == [message.sequence, *expected]
        assert window_store._drawn(answer, message) == expected
        for need in needs[: expected.granted]:
            self.draws.append((self.now_ms, need.calls, need.tokens))
        return expected

    def refused(self, needs: list[Need], returns: dict[int, tuple[int, int]] | None = None):
        """The name of what is not valid, by the script alone."""
        message = Message(KEY, "pod", next(self.sequence), self.terms, needs, returns or {})
        sequence, name = self.script(keys=[KEY], args=words_at(message, self.now_ms))
        assert sequence == message.sequence
        return name.decode()

    def give_back_some(self, number: int) -> dict[int, tuple[int, int]]:
        """Give back a whole draw, as one that was never spent."""
        if not self.draws:
            return {}
        at, calls, tokens = self.draws.pop(number % len(self.draws))
        return {at // BUCKET_MS: (calls, tokens)}

    def check(self) -> None:
        """No window holds more than a limit."""
        for end, _, _ in self.draws:
            inside = [it for it in self.draws if end - WINDOW_MS < it[0] <= end]
            calls, tokens = sum(it[1] for it in inside), sum(it[2] for it in inside)
            assert self.terms.calls is None or calls <= self.terms.calls
            assert self.terms.tokens is None or tokens <= self.terms.tokens


NEEDS = st.lists(
    st.builds(
        Need,
        tokens=st.integers(0, 60),
        background=st.booleans(),
        calls=st.sampled_from([1, 1, 1, 4]),
    ),
    max_size=8,
)
TERMS = st.builds(
    Terms,
    calls=st.none() | st.integers(1, 12),
    tokens=st.none() | st.integers(1, 200),
    reserved_percent=st.sampled_from([0, 20, 50, 100]),
    observes=st.booleans(),
)
STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2_000), st.integers(0, 70_000)),
        NEEDS,
        st.none() | st.integers(0, 100),
    ),
    max_size=12,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(terms=TERMS, steps=STEPS)
def test_script_draws_as_model_and_no_window_holds_more(client, terms, steps):
    both = Both(client, terms)
    for passing, needs, returned in steps:
        both.now_ms += passing
        # As a queue has them: background work comes after applications.
        in_order = sorted(needs, key=lambda need: need.background)
        returns = {} if returned is None else both.give_back_some(returned)
        both.draw(in_order, returns)
    if not terms.observes:
        both.check()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(terms=TERMS, steps=STEPS, back_ms=st.integers(1, 200_000))
def test_clock_that_goes_back_frees_nothing_and_blocks_for_minute(client, terms, steps, back_ms):
    both = Both(client, terms)
    for passing, needs, _ in steps:
        both.now_ms += passing
        both.draw(needs)
    held = both.draw([]).calls
    both.now_ms -= back_ms
    assert both.draw([]).calls == held
    both.now_ms += WINDOW_MS + BUCKET_MS
    assert both.draw([]).calls == 0


def test_wait_that_is_named_is_true(client):
    both = Both(client, Terms(calls=3))
    both.draw([Need(0), Need(0)])
    both.now_ms += 10_000
    both.draw([Need(0)])
    waits = both.draw([Need(0)])
    assert (waits.granted, waits.wait_ms) == (0, WINDOW_MS + BUCKET_MS - 10_000)
    both.now_ms += waits.wait_ms - 1
    assert both.draw([Need(0)]).granted == 0
    both.now_ms += 1
    assert both.draw([Need(0)]).granted == 1


def test_first_that_does_not_fit_stops_those_behind(client):
    both = Both(client, Terms(tokens=100))
    assert both.draw([Need(60), Need(60), Need(10)]).granted == 1


def test_background_leaves_reserve_of_minute(client):
    both = Both(client, Terms(calls=10, reserved_percent=20))
    assert both.draw([Need(0, background=True)] * 10).granted == 8
    assert both.draw([Need(0)] * 3).granted == 2


def test_observing_grants_all_and_tells_what_was_beyond(client):
    both = Both(client, Terms(calls=2, tokens=50, observes=True))
    drawn = both.draw([Need(30), Need(30), Need(30)])
    assert (drawn.granted, drawn.fit_calls, drawn.fit_tokens) == (3, 2, 1)
    assert (drawn.calls, drawn.tokens) == (3, 90)


def test_message_that_comes_twice_draws_and_gives_back_once(client):
    script = client.register_script(AT_A_TIME)
    terms = Terms(calls=10, tokens=100)

    def send(sequence: int, needs, returns):
        message = Message(KEY, "pod", sequence, terms, needs, returns)
        return script(keys=[KEY], args=words_at(message, START_MS))

    first = send(1, [Need(30), Need(30)], {})
    assert send(1, [Need(30), Need(30)], {}) == first
    returns = {START_MS // BUCKET_MS: (1, 30)}
    second = send(2, [], returns)
    assert second[-2:] == [1, 30]
    assert send(2, [], returns)[-2:] == [1, 30]
    # Overtaken by a later one: nothing changes either.
    assert send(1, [], returns)[-2:] == [1, 30]


def test_window_is_forgotten_when_it_is_over_and_key_expires(client):
    both = Both(client, Terms(calls=5))
    both.draw([Need(0)] * 5)
    both.now_ms += WINDOW_MS + BUCKET_MS
    both.draw([Need(0)])
    assert len(client.hkeys(KEY)) == 3
    assert 0 < client.ttl(KEY) <= 2 * WINDOW_MS / 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("3600000000", "1"),
        ("3600000000", "-1 0"),
        ("3600000000", "1 2 3"),
        ("3600000000", "1.5 0"),
        ("3600000000", "1e9 0"),
        ("3600000000", "99999999999999 0"),
        ("x", "1 1"),
        ("-5", "1 1"),
        ("by:other", "1 2"),
        ("by:other", "a b c d e f"),
        ("by:pod", "1 2"),
        ("sum", "1 2"),
        ("sum", "1 " * 100_000),
    ],
)
def test_field_of_no_sidecar_grants_nothing(client, server, field, value):
    client.hset(KEY, field, value)
    with pytest.raises(errors.StoreCorrupt):
        real(server, Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {}))
    assert client.hgetall(KEY) == {field.encode(): value.encode()}


def test_key_of_other_type_refuses(client, server):
    client.set(KEY, "1")
    with pytest.raises(errors.StoreRefuses):
        real(server, Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {}))


def test_too_many_fields_grant_nothing(client, server):
    client.hset(KEY, mapping={f"by:{number}": "1 1 1 1 1 1" for number in range(20_000)})
    with pytest.raises(errors.StoreCorrupt):
        real(server, Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {}))


def test_thousands_of_pods_that_have_ended_are_forgotten(client, server):
    client.hset(KEY, mapping={f"by:{number}": "1 1 1 1 1 1" for number in range(16_000)})
    drawn = real(server, Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {}))
    assert drawn.granted == 1
    assert client.hlen(KEY) == 3


def test_draw_reads_few_fields_and_all_of_them_now_and_then(client):
    both = Both(client, Terms(calls=100))
    both.draw([Need(0)])
    client.hset(KEY, "by:other", "no message")
    both.now_ms += window_store._SWEEP_MS - 1
    both.draw([Need(0)])
    both.now_ms += 1
    assert both.refused([Need(0)]) == "a message"


def test_sum_that_is_lost_is_made_anew(client):
    both = Both(client, Terms(calls=3))
    both.draw([Need(0)] * 3)
    client.hdel(KEY, "sum")
    assert both.draw([Need(0)]).granted == 0


def test_sum_of_forged_age_grants_nothing_at_once(client):
    both = Both(client, Terms(calls=3))
    newest = both.now_ms // BUCKET_MS
    client.hset(KEY, "sum", f"1 {newest} 0 0 {both.now_ms}")
    assert both.refused([Need(0)]) == "the sum"


def test_give_back_of_more_than_sum_has_grants_nothing(client):
    both = Both(client, Terms(calls=3))
    both.draw([Need(0)] * 3)
    first, newest, _, tokens, swept = client.hget(KEY, "sum").decode().split()
    client.hset(KEY, "sum", f"{first} {newest} 0 {tokens} {swept}")
    returns = {both.now_ms // BUCKET_MS: (3, 0)}
    assert both.refused([Need(0)], returns) == "the sum of the buckets"


def test_redis_itself_tells_time(client, server):
    drawn = real(server, Message(KEY, "pod", 1, Terms(calls=1), [Need(0)] * 2, {}))
    seconds, _ = client.time()
    assert drawn.granted == 1
    assert abs(drawn.now_ms / 1000 - seconds) < 60
    assert WINDOW_MS - BUCKET_MS <= drawn.wait_ms <= WINDOW_MS + BUCKET_MS


@pytest.mark.parametrize(
    "answer",
    [
        [2, 1, 1, 1, 1, 0, 1, 0],
        [1, 1, 1, 1, 1, 0, 1],
        [1, 1, b"1", 1, 1, 0, 1, 0],
        "OK",
        None,
    ],
)
def test_answer_to_other_message_is_none(answer):
    message = Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {})
    assert window_store._drawn(answer, message) is None


@pytest.mark.parametrize(
    "figures",
    [
        [START_MS, 2, 2, 2, 0, 2, 0],
        [START_MS, -1, 0, 0, 5, 0, 0],
        [START_MS, 1, 0, 1, 0, 1, 0],
        [START_MS, 0, 0, 0, 0, 0, 0],
        [START_MS, 0, 0, 0, 10**9, 0, 0],
        [START_MS, 0, 0, 0, -5, 0, 0],
        [0, 1, 1, 1, 0, 1, 0],
        [10**15, 1, 1, 1, 0, 1, 0],
        [START_MS, 1, 1, 1, 0, -1, 0],
    ],
)
def test_answer_that_cannot_be_is_named(figures):
    message = Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {})
    assert isinstance(window_store._drawn([1, *figures], message), str)


RIGHTS = "~aos:embedding:rate:* +eval +evalsha +time +hgetall +hmget +hset +hlen +expire +hdel"


def of_user(client, rights: str) -> None:
    client.execute_command("ACL", "SETUSER", "a", "reset", "on", ">geheim", *rights.split())


def test_rights_that_docs_list_are_enough(client, server):
    of_user(client, RIGHTS)
    drawn = drawn_from(server.url.replace("://", "://a:geheim@"))
    assert drawn.granted == 1
    page = (Path(__file__).parents[2] / "docs/sidecar.md").read_text(encoding="utf-8")
    quota = "+eval +evalsha +time +hgetall +hmget +hset +hlen +expire"
    assert f"{quota}`" in page
    assert "`~aos:embedding:rate:* +hdel`" in page


@pytest.mark.parametrize("right", ["+hdel", "+hgetall", "+hmget", "~aos:embedding:rate:*"])
def test_right_that_is_missing_is_named(client, server, right):
    client.hset(KEY, "1", "1 1")
    of_user(client, RIGHTS.replace(right, ""))
    with pytest.raises(errors.StoreRefuses, match=re.escape(right)):
        drawn_from(server.url.replace("://", "://a:geheim@"))


def test_window_in_cluster_is_drawn_from_with_listed_rights(tmp_path):
    nodes = redis_forms.Cluster(tmp_path / "cluster")
    try:
        nodes.join()
        for node in nodes.nodes:
            with node.client() as asked:
                of_user(asked, f"{RIGHTS} +command +cluster|slots +script|load")
        assert drawn_from(nodes.url.replace("://", "://a:geheim@")).granted == 1
    finally:
        nodes.kill()


def test_redis_that_is_away_is_said_so():
    with pytest.raises(errors.StoreAway):
        drawn_from(f"redis://127.0.0.1:{ports.free()}/0")


def real(server, message: Message):
    return drawn_from(server.url, message)


def drawn_from(url: str, message: Message | None = None):
    one = Message(KEY, "pod", 1, Terms(calls=5), [Need(0)], {})

    async def whole():
        store = window_store.RedisWindows(redis_url.connect(url))
        try:
            return await store.draw(message or one)
        finally:
            await store.close()

    return asyncio.run(whole())
