"""The byte budget of large requests: never exceeded, in order, and released in every case."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, names
from embedding_http.flow import pairs
from embedding_sidecar import errors, memory_limit
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.api import byte_budget, embeddings, streamed_response
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api
from tests.parts import virtual_time

MOST = 100
POLICY = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=(document.Provider(name="p", kind="OpenAI", model="m", base_url="http://p/v1"),),
)
LEFT = Allowance(
    requests=None,
    requests_left=None,
    tokens=None,
    tokens_left=None,
    resets_in_seconds=60.0,
)
NUMBERS = 1536
LARGE = 2048


@pytest.fixture
def loop():
    return virtual_time.Loop()


# --- a room


class Guests:
    """Who asked for room, in order: those who got it, and those who went away before."""

    def __init__(self, loop):
        self.loop = loop
        self.budget = byte_budget.ByteBudget(MOST)
        self.tasks: list[asyncio.Task[int]] = []
        self.came_in: list[int] = []
        self.turns: dict[int, int] = {}
        """The turn of the loop in which each came in."""
        self.admitted = 0
        self.left: set[int] = set()

    def ask(self, size):
        async def take(number):
            taken = await self.budget.take(lambda: size)
            self.came_in.append(number)
            self.turns[number] = self.admitted
            return taken

        self.tasks.append(self.loop.create_task(take(len(self.tasks))))

    def pass_turn(self):
        self.admitted += 1
        self.loop.pass_time(0)

    def leave(self, number):
        if number in self.came_in and number not in self.left:
            self.left.add(number)
            self.budget.give_back(self.tasks[number].result())

    def inside(self):
        return [
            task.result()
            for number, task in enumerate(self.tasks)
            if number in self.came_in and number not in self.left
        ]


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, MOST + 50)),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("resize"), st.integers(MOST // 2, MOST)),
    st.tuples(st.just("turn"), st.just(0)),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_budget_is_never_exceeded_keeps_order_and_admits_all(steps):
    guests = Guests(virtual_time.Loop())
    for what, value in steps:
        if what == "ask":
            guests.ask(value)
        elif what == "turn":
            guests.pass_turn()
        elif what == "resize":
            guests.budget.resize(value)
        elif value < len(guests.tasks):
            # Who goes away may have been let in a moment before, and not know it yet.
            guests.leave(value) if what == "leave" else guests.tasks[value].cancel()
        assert sum(guests.inside()) <= MOST
        # Who was in when it became smaller stays.
        assert guests.budget.free_bytes >= guests.budget.most_bytes - MOST
    # Whoever is in leaves, until nobody is left: then everybody who stayed has been in.
    for _ in guests.tasks:
        guests.pass_turn()
        for number in tuple(guests.came_in):
            guests.leave(number)
    guests.pass_turn()
    # Who is let in while it asks goes on at once, and who has waited when the loop comes to it: in
    # one turn the second may have been let in before the first.
    turns = [guests.turns[number] for number in sorted(guests.came_in)]
    assert turns == sorted(turns)
    for number, task in enumerate(guests.tasks):
        assert task.done()
        assert (number in guests.came_in) is not task.cancelled()
    assert guests.budget.free_bytes == guests.budget.most_bytes


def test_waiter_gets_all_of_room_that_became_smaller(loop):
    guests = Guests(loop)
    for size in (10, MOST):
        guests.ask(size)
    loop.pass_time(0)
    guests.budget.resize(MOST // 2)
    assert guests.came_in == [0]
    guests.leave(0)
    loop.pass_time(0)
    assert guests.inside() == [MOST // 2]


def test_waiter_comes_in_when_room_becomes_larger(loop):
    guests = Guests(loop)
    for size in (MOST, 10):
        guests.ask(size)
    loop.pass_time(0)
    guests.budget.resize(MOST + 10)
    loop.pass_time(0)
    assert guests.came_in == [0, 1]


def test_request_larger_than_room_gets_all_of_it_alone(loop):
    guests = Guests(loop)
    for size in (10, 10 * MOST, 10):
        guests.ask(size)
    loop.pass_time(0)
    assert guests.came_in == [0]
    guests.leave(0)
    loop.pass_time(0)
    assert guests.came_in == [0, 1]
    guests.leave(1)
    loop.pass_time(0)
    assert guests.came_in == [0, 1, 2]


def test_one_that_would_fit_does_not_overtake(loop):
    guests = Guests(loop)
    for size in (MOST - 10, 20, 10):
        guests.ask(size)
    loop.pass_time(0)
    assert guests.came_in == [0]


def test_waiter_behind_cancelled_one_comes_in(loop):
    guests = Guests(loop)
    for size in (MOST - 10, 20, 10):
        guests.ask(size)
    loop.pass_time(0)
    guests.tasks[1].cancel()
    loop.pass_time(0)
    assert guests.came_in == [0, 2]


def test_waiter_cancelled_on_entry_gives_back(loop):
    guests = Guests(loop)
    guests.ask(MOST)
    guests.ask(MOST)
    loop.pass_time(0)
    guests.leave(0)
    assert guests.budget.free_bytes == 0
    guests.tasks[1].cancel()
    loop.pass_time(0)
    assert guests.budget.free_bytes == MOST


# --- what one request takes


def test_reservation_waits_for_its_patience_in_total(loop):
    budgets = byte_budget.ByteBudget(MOST), byte_budget.ByteBudget(MOST)

    async def run():
        reservations = [byte_budget.ByteReservation(patience_seconds=10) for _ in range(2)]
        await reservations[0].take(budgets[0], lambda: MOST)
        await reservations[0].take(budgets[1], lambda: MOST)
        asyncio.get_running_loop().call_later(6, budgets[0].give_back, MOST)
        with reservations[1]:
            await reservations[1].take(budgets[0], lambda: 1)
            with pytest.raises(errors.Unavailable) as refused:
                await reservations[1].take(budgets[1], lambda: 1)
        assert (refused.value.status, refused.value.code) == (503, "memory_exhausted")
        assert reservations[1].waited_seconds == pytest.approx(10)
        assert budgets[0].free_bytes == MOST

    loop.run_until_complete(run())


def test_reservation_is_released_once(loop):
    hall = byte_budget.ByteBudget(MOST)

    async def run():
        with byte_budget.ByteReservation(patience_seconds=1) as reservation:
            await reservation.take(hall, lambda: 30)
            assert hall.free_bytes == MOST - 30
            reservation.close()
        assert hall.free_bytes == MOST

    loop.run_until_complete(run())


def test_vectors_are_as_large_as_asked_for_or_as_seen_last():
    sizes = byte_budget.Sizes()
    ask = provider_api.Ask(model="m", items=("a", "b"))
    assert sizes.vector_bytes(ask) == 4 * byte_budget.UNKNOWN_NUMBERS
    sizes.learn(provider_api.Ask(model="m", items=("a",), dimensions=8), bytes(32))
    assert sizes.vector_bytes(ask) == 4 * byte_budget.UNKNOWN_NUMBERS
    sizes.learn(ask, bytes(4 * NUMBERS))
    assert sizes.vector_bytes(ask) == 4 * NUMBERS
    assert sizes.vector_bytes(provider_api.Ask(model="m", items=("a",), dimensions=8)) == 32


def test_room_for_vectors_holds_one_of_largest_batches():
    largest = provider_api.Ask(model="m", items=("a",) * LARGE, dimensions=NUMBERS)
    assert byte_budget.Sizes().held_bytes(largest) == byte_budget.LEAST_VECTORS_BYTES


# --- how much there is of it

CACHE_BYTES = POLICY.cache.memory_max_bytes


def test_memory_of_chart_holds_seven_of_largest_batches():
    most = byte_budget.vectors_bytes(memory_limit.DEFAULT_BYTES, cache_bytes=CACHE_BYTES)
    assert most // byte_budget.LEAST_VECTORS_BYTES == 7


@given(memory_bytes=st.integers(0, 2**40), cache_bytes=st.integers(0, 2**34))
def test_budget_grows_with_memory_shrinks_with_cache_fits_batch(memory_bytes, cache_bytes):
    most = byte_budget.vectors_bytes(memory_bytes, cache_bytes=cache_bytes)
    assert most >= byte_budget.LEAST_VECTORS_BYTES
    assert byte_budget.vectors_bytes(memory_bytes + 2**20, cache_bytes=cache_bytes) >= most
    assert byte_budget.vectors_bytes(memory_bytes, cache_bytes=cache_bytes + 2**20) <= most
    if most > byte_budget.LEAST_VECTORS_BYTES:
        assert most + cache_bytes < 0.9 * memory_bytes


def test_rooms_are_as_large_as_policys_cache_lets_them_be():
    budgets = byte_budget.ByteBudgets(memory_limit.DEFAULT_BYTES)
    for cache_bytes in (CACHE_BYTES, 2 * CACHE_BYTES, CACHE_BYTES):
        budgets.fit(cache_bytes)
        most = byte_budget.vectors_bytes(memory_limit.DEFAULT_BYTES, cache_bytes=cache_bytes)
        assert budgets.vectors.free_bytes == budgets.vectors.most_bytes == most
        assert budgets.bodies.most_bytes == most // byte_budget.VECTORS_FOR_BODIES
    budgets.fit(100 * CACHE_BYTES)
    assert budgets.vectors.most_bytes == byte_budget.LEAST_VECTORS_BYTES
    assert budgets.bodies.most_bytes == byte_budget.LEAST_BODIES_BYTES


# --- the endpoint


def zeros(ask, *, hits):
    return Answer(
        vectors=(bytes(4 * NUMBERS),) * len(ask.items),
        provider="p",
        kind="OpenAI",
        model="m",
        space="s",
        hits=hits,
        coalesced=0,
        items=len(ask.items),
        tokens=1,
        tokens_saved=0,
        attempts=0,
        upstream_seconds=0.0,
    )


class Service:
    """Answers with vectors of zeros, when it is let."""

    def __init__(self):
        self.asked: list[tuple[int, float]] = []
        self.may_answer = asyncio.Event()

    async def embed(self, ask, *, control, found, waited_seconds, span=None, background=False):
        self.asked.append((len(ask.items), waited_seconds))
        await self.may_answer.wait()
        return zeros(ask, hits=0)


class Endpoint:
    """An endpoint over such a service, asked as uvicorn asks it."""

    def __init__(self, loop, *, memory_bytes=0):
        self.loop = loop
        self.service = Service()
        self.knows = False
        unused: Any = SimpleNamespace()
        current: Any = SimpleNamespace(
            runtime=lambda: SimpleNamespace(
                loaded=SimpleNamespace(document=POLICY),
                service=self.service,
                cached_answers=SimpleNamespace(
                    wanted=lambda ask, **_: ask, answer=lambda _: None, look_up=self._look_up
                ),
                quota=SimpleNamespace(left=lambda **_: LEFT),
            )
        )
        self.current = current
        self.application = embeddings.Embeddings(
            current=current, metrics=Metrics(), otherwise=unused, memory_bytes=memory_bytes
        )

    def _look_up(self, ask, _, done):
        done(zeros(ask, hits=len(ask.items)) if self.knows else None)

    @property
    def free(self):
        return self.application._budgets.vectors.free_bytes

    def post(self, items, *, text="a", reads=True, asks_for_numbers=True, **scope):
        """A request that is under way."""
        body = {"model": "m", "input": [text] * items}
        request = Request(json.dumps(body | ({"dimensions": NUMBERS} if asks_for_numbers else {})))
        request.reads = reads
        scope = {
            "type": "http",
            "method": "POST",
            "path": names.PATH_EMBEDDINGS,
            "headers": [(b"content-length", b"%d" % len(request.body))],
            **scope,
        }
        request.task = self.loop.create_task(self._respond(scope, request))
        self.loop.pass_time(0.1)
        return request

    async def _respond(self, scope, request):
        reply = await self.application.respond(scope, request.receive, request.send)
        if reply is not None:
            head = {"status": reply.status, "headers": pairs(reply.head)}
            await request.send({"type": "http.response.start", **head})
            await request.send({"type": "http.response.body", "body": reply.body})


class Request:
    def __init__(self, body):
        self.body = body.encode()
        self.bodies_read = 0
        self.gone = asyncio.Event()
        self.reads = True
        self.sent: list[dict[str, Any]] = []
        self.task: asyncio.Task[None]

    async def receive(self):
        if self.bodies_read:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self.bodies_read += 1
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        if not self.reads:
            await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    def answer(self):
        return json.loads(b"".join(it["body"] for it in self.sent[1:]))


@pytest.fixture
def endpoint(loop):
    return Endpoint(loop)


def test_large_batches_take_turns_and_small_requests_pass_by(endpoint):
    waiting = [endpoint.post(LARGE) for _ in range(3)]
    small = endpoint.post(20)
    assert [items for items, _ in endpoint.service.asked] == [LARGE, 20]
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    for request in (*waiting, small):
        assert request.status == 200
        assert len(request.answer()["data"]) in {LARGE, 20}
    assert endpoint.free == byte_budget.LEAST_VECTORS_BYTES


def test_requests_under_way_are_bounded_by_memory(loop):
    endpoint = Endpoint(loop, memory_bytes=memory_limit.DEFAULT_BYTES)
    requests = [endpoint.post(LARGE) for _ in range(9)]
    assert len(endpoint.service.asked) == 7
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert [request.status for request in requests] == [200] * 9
    assert endpoint.free == endpoint.application._budgets.vectors.most_bytes


def test_waiter_takes_vector_size_known_by_then(loop):
    endpoint = Endpoint(loop, memory_bytes=memory_limit.DEFAULT_BYTES)
    requests = [endpoint.post(LARGE, asks_for_numbers=False) for _ in range(9)]
    # They may be of 4,096 numbers.
    assert len(endpoint.service.asked) == 2
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(0)
    endpoint.service.may_answer.clear()
    endpoint.loop.pass_time(1)
    assert len(endpoint.service.asked) == 9
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert [request.status for request in requests] == [200] * 9


def test_small_request_tells_how_long_vectors_are(loop):
    endpoint = Endpoint(loop, memory_bytes=memory_limit.DEFAULT_BYTES)
    endpoint.service.may_answer.set()
    small = endpoint.post(1, asks_for_numbers=False)
    assert small.status == 200
    endpoint.service.may_answer.clear()
    for _ in range(9):
        endpoint.post(LARGE, asks_for_numbers=False)
    assert len(endpoint.service.asked) == 1 + 7


def test_texts_cached_meanwhile_are_not_asked_for(endpoint):
    first, second = endpoint.post(LARGE), endpoint.post(LARGE)
    endpoint.knows = True
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    assert dict(second.sent[0]["headers"])[b"x-embedding-cache"] == b"hit"
    assert len(endpoint.service.asked) == 1


def test_request_that_waits_too_long_for_memory_is_refused_unasked(endpoint):
    endpoint.post(LARGE)
    late = endpoint.post(LARGE)
    endpoint.loop.pass_time(embeddings.PATIENCE_SECONDS)
    assert late.status == 503
    assert late.answer()["error"]["code"] == "memory_exhausted"
    assert dict(late.sent[0]["headers"])[b"retry-after"] == b"1"
    assert len(endpoint.service.asked) == 1


def test_wait_for_memory_counts_into_time_of_request(endpoint):
    first, second = endpoint.post(LARGE), endpoint.post(LARGE)
    endpoint.loop.pass_time(10)
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    (_, none), (_, waited) = endpoint.service.asked
    assert none == pytest.approx(0)
    assert waited == pytest.approx(10, abs=0.2)


def test_caller_that_left_while_waiting_is_not_asked_for(endpoint):
    endpoint.post(LARGE)
    left, reservations = endpoint.post(LARGE), endpoint.post(LARGE)
    left.gone.set()
    endpoint.loop.pass_time(1)
    assert left.task.done()
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert reservations.status == 200
    assert len(endpoint.service.asked) == 2
    assert endpoint.free == byte_budget.LEAST_VECTORS_BYTES


def test_request_that_is_cut_gives_its_room_back(endpoint):
    inside, waiting = endpoint.post(LARGE), endpoint.post(LARGE)
    for request in (waiting, inside):
        request.task.cancel()
        endpoint.loop.pass_time(0.1)
        assert request.task.cancelled()
    assert endpoint.free == byte_budget.LEAST_VECTORS_BYTES


def test_answer_that_is_not_read_does_not_keep_its_room(endpoint):
    endpoint.service.may_answer.set()
    unread, waiting = endpoint.post(LARGE, reads=False), endpoint.post(LARGE)
    assert waiting.status is None
    endpoint.loop.pass_time(streamed_response.SLOW_READER_SECONDS)
    assert waiting.status == 200
    unread.task.cancel()
    endpoint.loop.pass_time(0.1)
    assert endpoint.free == byte_budget.LEAST_VECTORS_BYTES


def test_large_body_is_read_when_there_is_room_for_it(endpoint):
    first = endpoint.post(LARGE, text="x" * 4000)
    second = endpoint.post(LARGE, text="x" * 4000)
    assert (first.bodies_read, second.bodies_read) == (1, 0)
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    assert endpoint.application._budgets.bodies.free_bytes == byte_budget.LEAST_BODIES_BYTES


def test_long_answer_is_chunked_except_for_http10(endpoint):
    endpoint.service.may_answer.set()
    whole = endpoint.post(LARGE, http_version="1.0")
    chunked = endpoint.post(LARGE, http_version="1.1")
    assert whole.answer() == chunked.answer()
    assert len(whole.sent) == 2
    assert b"content-length" in dict(whole.sent[0]["headers"])
    assert max(len(it["body"]) for it in chunked.sent[1:]) < streamed_response.WHOLE_BYTES
    assert b"content-length" not in dict(chunked.sent[0]["headers"])
