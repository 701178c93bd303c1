"""Room for large requests: never more than there is, in order, and given back whatever happens."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, names
from embedding_sidecar import errors, provider
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.metrics import Metrics
from embedding_sidecar.serving import embeddings, room
from tests.parts import virtual_time

MOST = 100
POLICY = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=(document.Provider(name="p", kind="OpenAI", model="m", base_url="http://p/v1"),),
)
LEFT = Allowance(
    daily_requests=None,
    requests_left=None,
    daily_tokens=None,
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
        self.room = room.Room(MOST)
        self.tasks: list[asyncio.Task[int]] = []
        self.came_in: list[int] = []
        self.left: set[int] = set()

    def ask(self, size):
        async def take(number):
            taken = await self.room.take(size)
            self.came_in.append(number)
            return taken

        self.tasks.append(self.loop.create_task(take(len(self.tasks))))

    def leave(self, number):
        if number in self.came_in and number not in self.left:
            self.left.add(number)
            self.room.give_back(self.tasks[number].result())

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
    st.tuples(st.just("turn"), st.just(0)),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_a_room_is_never_overfull_keeps_the_order_and_lets_everybody_in(steps):
    guests = Guests(virtual_time.Loop())
    for what, value in steps:
        if what == "ask":
            guests.ask(value)
        elif what == "turn":
            guests.loop.pass_time(0)
        elif value < len(guests.tasks):
            # Who goes away may have been let in a moment before, and not know it yet.
            guests.leave(value) if what == "leave" else guests.tasks[value].cancel()
        assert sum(guests.inside()) <= MOST
        assert guests.room.free_bytes >= 0
    # Whoever is in leaves, until nobody is left: then everybody who stayed has been in.
    for _ in guests.tasks:
        guests.loop.pass_time(0)
        for number in tuple(guests.came_in):
            guests.leave(number)
    guests.loop.pass_time(0)
    assert guests.came_in == sorted(guests.came_in)
    for number, task in enumerate(guests.tasks):
        assert task.done()
        assert (number in guests.came_in) is not task.cancelled()
    assert guests.room.free_bytes == MOST


def test_who_asks_for_more_than_there_is_gets_all_of_it_alone(loop):
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


def test_who_was_behind_one_that_went_away_comes_in(loop):
    guests = Guests(loop)
    for size in (MOST - 10, 20, 10):
        guests.ask(size)
    loop.pass_time(0)
    guests.tasks[1].cancel()
    loop.pass_time(0)
    assert guests.came_in == [0, 2]


def test_who_goes_away_in_the_moment_it_is_let_in_gives_back(loop):
    guests = Guests(loop)
    guests.ask(MOST)
    guests.ask(MOST)
    loop.pass_time(0)
    guests.leave(0)
    assert guests.room.free_bytes == 0
    guests.tasks[1].cancel()
    loop.pass_time(0)
    assert guests.room.free_bytes == MOST


# --- what one request takes


def test_a_stay_waits_in_all_as_long_as_it_has_patience(loop):
    rooms = room.Room(MOST), room.Room(MOST)

    async def run():
        stays = [room.Stay(patience_seconds=10) for _ in range(2)]
        await stays[0].take(rooms[0], MOST)
        await stays[0].take(rooms[1], MOST)
        asyncio.get_running_loop().call_later(6, rooms[0].give_back, MOST)
        with stays[1]:
            await stays[1].take(rooms[0], 1)
            with pytest.raises(errors.Unavailable) as refused:
                await stays[1].take(rooms[1], 1)
        assert (refused.value.status, refused.value.code) == (502, "all_providers_failed")
        assert stays[1].waited_seconds == pytest.approx(10)
        assert rooms[0].free_bytes == MOST

    loop.run_until_complete(run())


def test_a_stay_leaves_once(loop):
    hall = room.Room(MOST)

    async def run():
        with room.Stay(patience_seconds=1) as stay:
            await stay.take(hall, 30)
            assert hall.free_bytes == MOST - 30
            stay.leave()
        assert hall.free_bytes == MOST

    loop.run_until_complete(run())


def test_vectors_are_as_large_as_asked_for_or_as_seen_last():
    sizes = room.Sizes()
    ask = provider.Ask(model="m", items=("a", "b"))
    assert sizes.vector_bytes(ask) == 4 * room.UNKNOWN_NUMBERS
    sizes.learn(provider.Ask(model="m", items=("a",), dimensions=8), bytes(32))
    assert sizes.vector_bytes(ask) == 4 * room.UNKNOWN_NUMBERS
    sizes.learn(ask, bytes(4 * NUMBERS))
    assert sizes.vector_bytes(ask) == 4 * NUMBERS
    assert sizes.vector_bytes(provider.Ask(model="m", items=("a",), dimensions=8)) == 32


def test_room_for_vectors_holds_one_of_the_largest_batches():
    largest = provider.Ask(model="m", items=("a",) * LARGE, dimensions=NUMBERS)
    assert room.Sizes().held_bytes(largest) == room.VECTORS_BYTES


# --- the endpoint


def zeros(ask, *, hits):
    return Answer(
        vectors=(bytes(4 * ask.dimensions),) * len(ask.items),
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

    async def embed(self, ask, *, control, found, waited_seconds):
        self.asked.append((len(ask.items), waited_seconds))
        await self.may_answer.wait()
        return zeros(ask, hits=0)


class Endpoint:
    """An endpoint over such a service, asked as uvicorn asks it."""

    def __init__(self, loop):
        self.loop = loop
        self.service = Service()
        self.knows = False
        unused: Any = SimpleNamespace()
        current: Any = SimpleNamespace(
            runtime=lambda: SimpleNamespace(
                loaded=SimpleNamespace(document=POLICY),
                service=self.service,
                recall=SimpleNamespace(wanted=lambda ask, **_: ask, look_up=self._look_up),
                quota=SimpleNamespace(left=lambda: LEFT),
            )
        )
        self.application = embeddings.Embeddings(
            current=current, metrics=Metrics(), otherwise=unused
        )

    def _look_up(self, ask, done):
        done(zeros(ask, hits=len(ask.items)) if self.knows else None)

    @property
    def free(self):
        return self.application._vectors.free_bytes

    def post(self, items, *, text="a", reads=True, **scope):
        """A request that is under way."""
        request = Request(
            json.dumps({"model": "m", "input": [text] * items, "dimensions": NUMBERS})
        )
        request.reads = reads
        scope = {
            "type": "http",
            "method": "POST",
            "path": names.PATH_EMBEDDINGS,
            "headers": [(b"content-length", b"%d" % len(request.body))],
            **scope,
        }
        application = self.application(scope, request.receive, request.send)
        request.task = self.loop.create_task(application)
        self.loop.pass_time(0.1)
        return request


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


def test_large_batches_are_answered_one_after_the_other_and_small_requests_pass_by(endpoint):
    waiting = [endpoint.post(LARGE) for _ in range(3)]
    small = endpoint.post(20)
    assert [items for items, _ in endpoint.service.asked] == [LARGE, 20]
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    for request in (*waiting, small):
        assert request.status == 200
        assert len(request.answer()["data"]) in {LARGE, 20}
    assert endpoint.free == room.VECTORS_BYTES


def test_what_the_cache_has_by_then_is_asked_of_nobody(endpoint):
    first, second = endpoint.post(LARGE), endpoint.post(LARGE)
    endpoint.knows = True
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    assert dict(second.sent[0]["headers"])[b"x-embedding-cache"] == b"hit"
    assert len(endpoint.service.asked) == 1


def test_who_waits_too_long_for_room_is_refused_and_nobody_was_asked(endpoint):
    endpoint.post(LARGE)
    late = endpoint.post(LARGE)
    endpoint.loop.pass_time(embeddings.PATIENCE_SECONDS)
    assert late.status == 502
    assert late.answer()["error"]["code"] == "all_providers_failed"
    assert len(endpoint.service.asked) == 1


def test_what_was_waited_for_room_is_of_a_requests_time(endpoint):
    first, second = endpoint.post(LARGE), endpoint.post(LARGE)
    endpoint.loop.pass_time(10)
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    (_, none), (_, waited) = endpoint.service.asked
    assert none == pytest.approx(0)
    assert waited == pytest.approx(10, abs=0.2)


def test_nothing_is_asked_for_a_caller_who_left_while_it_waited(endpoint):
    endpoint.post(LARGE)
    left, stays = endpoint.post(LARGE), endpoint.post(LARGE)
    left.gone.set()
    endpoint.loop.pass_time(1)
    assert left.task.done()
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert stays.status == 200
    assert len(endpoint.service.asked) == 2
    assert endpoint.free == room.VECTORS_BYTES


def test_a_request_that_is_cut_gives_its_room_back(endpoint):
    inside, waiting = endpoint.post(LARGE), endpoint.post(LARGE)
    for request in (waiting, inside):
        request.task.cancel()
        endpoint.loop.pass_time(0.1)
        assert request.task.cancelled()
    assert endpoint.free == room.VECTORS_BYTES


def test_an_answer_that_is_not_read_does_not_keep_its_room(endpoint):
    endpoint.service.may_answer.set()
    unread, waiting = endpoint.post(LARGE, reads=False), endpoint.post(LARGE)
    assert waiting.status is None
    endpoint.loop.pass_time(embeddings.SLOW_READER_SECONDS)
    assert waiting.status == 200
    unread.task.cancel()
    endpoint.loop.pass_time(0.1)
    assert endpoint.free == room.VECTORS_BYTES


def test_a_large_body_is_read_when_there_is_room_for_it(endpoint):
    first = endpoint.post(LARGE, text="x" * 4000)
    second = endpoint.post(LARGE, text="x" * 4000)
    assert (first.bodies_read, second.bodies_read) == (1, 0)
    endpoint.service.may_answer.set()
    endpoint.loop.pass_time(1)
    assert (first.status, second.status) == (200, 200)
    assert endpoint.application._bodies.free_bytes == room.BODIES_BYTES


def test_a_long_answer_comes_in_pieces_but_to_who_knows_no_chunks(endpoint):
    endpoint.service.may_answer.set()
    whole = endpoint.post(LARGE, http_version="1.0")
    pieces = endpoint.post(LARGE, http_version="1.1")
    assert whole.answer() == pieces.answer()
    assert len(whole.sent) == 2
    assert b"content-length" in dict(whole.sent[0]["headers"])
    assert max(len(it["body"]) for it in pieces.sent[1:]) < embeddings.WHOLE_BYTES
    assert b"content-length" not in dict(pieces.sent[0]["headers"])
