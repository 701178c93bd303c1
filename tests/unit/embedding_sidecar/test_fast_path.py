"""Our protocol answers what uvicorn's does, byte for byte, with the fast path and without."""

import asyncio
import functools
import gc
import itertools
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_http.bounds import Bounds, RefusedRequest
from embedding_http.flow import Reply, WriteCoalescer, pairs
from embedding_http.protocol import HttpProtocol, Listener
from embedding_sidecar.api import fast_path, head_cache
from embedding_sidecar.api.embeddings import Asked
from embedding_sidecar.api.fast_path import FastPath
from embedding_sidecar.openai_format import request_headers
from tests.parts.oracle import Oracle

BODY_TO_WAIT_FOR = b"slow"
BODY_TO_LOOK_UP = b"look"
HEAD = b"content-type: text/plain\r\ncontent-length: %d\r\n"


def asked(head, body):
    one: Any = SimpleNamespace(ask=SimpleNamespace(items=("one",)))
    return Asked(started=0.0, head=head, body=body, request=one if b"bought" in body else None)


class Echo:
    """Answers with the body it was sent; at once, unless the body says that it takes time."""

    def __init__(self):
        self.known_heads = head_cache.HeadCache()
        self.turn = WriteCoalescer()
        self.bounds = Bounds()
        self.parsed: list[request_headers.Head] = []
        self.at_once_asked = 0
        self.tasks = 0
        self.handed_over = []
        self.left = 0
        self.left_during_look_up = []
        self.held_look_ups = None
        """A list: look-ups in vain end when what it holds is called."""

    def head(self, scope):
        self.parsed.append(request_headers.read(scope["headers"]))
        return self.parsed[-1] if scope["method"] == "POST" else None

    def at_once(self, head, body):
        self.at_once_asked += 1
        reply = Reply(200, HEAD % len(body), body)
        waits = body.startswith((BODY_TO_WAIT_FOR, BODY_TO_LOOK_UP))
        return asked(head, body) if waits else reply

    def look_up(self, it, done):
        """Tells the answer a moment later, or that there is none, or at once that there is none."""
        found = Reply(200, HEAD % len(it.body), it.body)
        if it.body.startswith(BODY_TO_WAIT_FOR) or it.body.endswith(b"in vain, at once"):
            done(it)
        elif self.held_look_ups is not None:
            self.held_look_ups.append(functools.partial(done, it))
        elif it.body.startswith(BODY_TO_LOOK_UP + b" in vain"):
            asyncio.get_running_loop().call_later(0.01, done, it)
        else:
            asyncio.get_running_loop().call_later(0.01, done, found)

    def caller_left(self, it):
        self.left_during_look_up.append(it)

    async def respond(self, scope, receive, send, asked=None):
        self.tasks += 1
        self.handed_over.append(asked)
        if asked is not None:
            if asked.body.endswith(b"bought"):
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    self.left += 1
                    raise
            return Reply(200, HEAD % len(asked.body), asked.body)
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message["body"]
            if not message["more_body"]:
                return Reply(200, HEAD % len(body), body)

    async def __call__(self, scope, receive, send):
        reply = await self.respond(scope, receive, send)
        if reply is not None:
            start = {"type": "http.response.start", "status": 200, "headers": pairs(reply.head)}
            await send(start)
            await send({"type": "http.response.body", "body": reply.body})


def listener(application):
    return Listener(
        application=application, bounds=application.bounds, coalesce=application.turn.send
    )


class Ours:
    """Makes connections of ours."""

    def __init__(self, protocol, application):
        self._protocol = protocol
        self.listener = listener(application)
        self.connections = self.listener.connections
        self.tasks = self.listener.tasks

    def end_next(self):
        self.listener.is_ending = True

    def connection(self):
        return self._protocol(self.listener)


UVICORN = Oracle
PLAIN = functools.partial(Ours, HttpProtocol)
FAST = functools.partial(Ours, FastPath)


def exchange(
    protocol, pieces, *, pause_seconds=0.0, closes=True, is_ending=False, application=None
):
    """All that comes back for these pieces of a connection, and the application that answered.

    `closes` says that the server ends it; otherwise we do, which it takes for a farewell. None: we
    leave in the middle.
    """

    application = application or Echo()

    async def run():
        serves = protocol(application)
        if is_ending:
            serves.end_next()
        serving = await asyncio.get_running_loop().create_server(serves.connection, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*serving.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        if closes is False:
            await asyncio.sleep(0.1)
            writer.write_eof()
        if closes is None:
            while not application.at_once_asked:  # noqa: ASYNC110 - it tells nobody either
                await asyncio.sleep(0.001)
            writer.transport.abort()
            while serves.connections:  # noqa: ASYNC110 - as said below
                await asyncio.sleep(0.001)
            for end in application.held_look_ups or ():
                end()
        answered = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        serving.close()
        await asyncio.gather(*serves.tasks)
        async with asyncio.timeout(20):
            # Nothing tells when a connection ends.
            while serves.connections:  # noqa: ASYNC110 - as just said
                await asyncio.sleep(0.001)
        return answered, application

    return asyncio.run(run())


def post(body, *headers, version=b"1.1"):
    lines = [b"POST /x HTTP/" + version, b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CLOSE = b"connection: close"
LAST = post(b"last", CLOSE)
CHUNKED = (
    b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)
CONNECTIONS = {
    "one request": [LAST],
    "one after another": [post(b"one"), post(b"two"), LAST],
    "the same again and again": [post(b"one"), post(b"one"), post(b"other"), post(b"one"), LAST],
    "the same behind a task": [post(b"one"), post(b"slow") + post(b"one"), post(b"one"), LAST],
    "the same with a line before it": [post(b"one"), b"\r\n" + post(b"one"), LAST],
    "the same inside a head": [
        post(b"one"),
        b"GET /x HTTP/1.1\r\nconnection: close\r\nz: ",
        post(b"other"),
        b"",
    ],
    "the same but no HTTP": [post(b"one"), b"x\x00" + post(b"one")],
    "the same with another length": [post(b"one"), post(b"one").replace(b"3", b"+3")],
    "what is looked up": [post(b"look"), post(b"look"), post(b"one"), LAST],
    "what is looked up in vain": [post(b"look in vain"), post(b"look in vain, at once"), LAST],
    "a pipeline with a look-up in it": [post(b"one") + post(b"look") + post(b"look") + LAST],
    "a look-up behind a task": [post(b"slow") + post(b"look"), LAST],
    "what is bought": [post(b"look in vain, bought"), post(b"look"), LAST],
    "a pipeline of what is bought": [post(b"look in vain, bought") * 3 + LAST],
    "a look-up that is the last": [post(b"look", CLOSE)],
    "a pipeline": [post(b"one") + post(b"two") + LAST],
    "a pipeline with a task in it": [post(b"one") + post(b"slow") + post(b"two") + LAST],
    "a pipeline that begins with a task": [post(b"slow") + post(b"two") + LAST],
    "a body that comes in pieces": [post(b"abc")[:-2], b"b", b"c" + LAST],
    "a head that comes in pieces": [post(b"abc")[:20], post(b"abc")[20:] + LAST],
    "chunks": [CHUNKED + LAST],
    "chunks in pieces": [CHUNKED[:-12], CHUNKED[-12:] + LAST],
    "a long body": [post(b"x" * 200_000), LAST],
    "no body": [post(b""), LAST],
    "the old version": [post(b"abc", version=b"1.0")],
    "the old version, kept": [post(b"abc", b"connection: keep-alive", version=b"1.0"), LAST],
    "another method": [b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n" + LAST],
    "no HTTP": [b"hello\r\n\r\n"],
    "no HTTP after a request": [post(b"one") + b"hello\r\n\r\n"],
}


REFUSED_IN_OUR_FORM = {
    "the same but no HTTP",
    "the same with another length",
    "no HTTP",
    "no HTTP after a request",
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_fast_path_answers_as_uvicorn_does(name):
    oracle = PLAIN if name in REFUSED_IN_OUR_FORM else UVICORN
    expected, _ = exchange(oracle, CONNECTIONS[name], pause_seconds=0.01)
    for ours in (PLAIN, FAST):
        assert exchange(ours, CONNECTIONS[name], pause_seconds=0.01)[0] == expected


@settings(max_examples=40, deadline=None)
@given(
    bodies=st.lists(
        st.one_of(
            st.binary(max_size=9),
            st.sampled_from([b"slow", b"look", b"look in vain", b"look in vain, bought"]),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=4),
)
def test_bodies_come_back_in_order_for_any_cut_of_connection(bodies, cuts):
    whole = b"".join(post(body) for body in bodies) + LAST
    marks = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[at:to] for at, to in itertools.pairwise(marks)]
    answered, _ = exchange(FAST, pieces)
    kept = [b"HTTP/1.1 200 OK\r\n" + HEAD % len(it) + b"\r\n" + it for it in bodies]
    last = b"HTTP/1.1 200 OK\r\n" + HEAD % 4 + CLOSE + b"\r\n\r\nlast"
    assert answered == b"".join([*kept, last])


def test_head_that_came_before_is_not_parsed_again():
    pieces = [post(b"one"), post(b"one"), post(b"longer"), LAST]
    answered, application = exchange(FAST, pieces, pause_seconds=0.01)
    assert answered.count(b"HTTP/1.1 200 OK") == 4
    assert (len(application.parsed), application.at_once_asked) == (2, 4)


@pytest.mark.parametrize("header", [CLOSE, b"expect: 100-continue"])
def test_head_after_which_more_happens_than_answer_is_parsed_each_time(header):
    application = Echo()
    for _ in range(2):
        exchange(FAST, [post(b"one", header)], closes=False, application=application)
    assert len(application.known_heads) == 0


def test_client_with_changing_heads_teaches_little():
    pieces = [post(b"one", b"trace: %d" % number) for number in range(20)]
    _, application = exchange(FAST, [*pieces, LAST], pause_seconds=0.005)
    assert len(application.known_heads) == fast_path.MAX_LESSONS


def test_line_ends_before_known_head_are_no_slow_head():
    application = Echo()
    application.bounds = Bounds(head_seconds=0.2)
    exchange(FAST, [post(b"one")], closes=False, application=application)
    pieces = [b"\r\n", post(b"one"), *[b""] * 8]
    answered, _ = exchange(FAST, pieces, pause_seconds=0.05, closes=False, application=application)
    assert len(application.parsed) == 1
    assert answered.count(b"HTTP/1.1") == 1


def test_head_is_known_on_every_connection():
    application = Echo()
    for _ in range(2):
        exchange(FAST, [post(b"one")], closes=False, application=application)
    assert (len(application.parsed), application.at_once_asked) == (1, 2)


def test_immediate_answer_needs_no_task():
    _, application = exchange(FAST, [post(b"one"), LAST], pause_seconds=0.01)
    assert (application.at_once_asked, application.tasks) == (2, 0)


def test_look_up_needs_no_task():
    pieces = [post(b"look"), LAST]
    _, application = exchange(FAST, pieces, pause_seconds=0.05)
    assert (application.at_once_asked, application.tasks) == (2, 0)


def test_look_up_without_result_is_handed_to_task():
    pieces = [post(b"look in vain"), post(b"look in vain, at once"), LAST]
    _, application = exchange(FAST, pieces, pause_seconds=0.05)
    assert [it.body for it in application.handed_over] == [
        b"look in vain",
        b"look in vain, at once",
    ]


def test_bought_answer_is_one_task():
    pieces = [post(b"look in vain, bought"), LAST]
    _, application = exchange(FAST, pieces, pause_seconds=0.05)
    assert application.tasks == 1


def test_caller_that_left_during_look_up_begins_nothing():
    for body in (b"look in vain", b"look in vain, bought"):
        application = Echo()
        application.held_look_ups = []
        exchange(FAST, [post(body)], closes=None, application=application)
        assert len(application.held_look_ups) == 1
        assert [it.body for it in application.left_during_look_up] == [body]
        assert (application.at_once_asked, application.tasks) == (1, 0)


def test_head_and_body_may_come_apart():
    pieces = [post(b"abc")[:-3], b"abc", LAST]
    _, application = exchange(FAST, pieces, pause_seconds=0.005)
    assert application.at_once_asked == 2


def test_body_that_does_not_come_is_waited_for_in_task():
    pieces = [post(b"abc", CLOSE)[:-1], b"c"]
    answered, application = exchange(FAST, pieces, pause_seconds=3 * fast_path.HOLD_SECONDS)
    assert answered.endswith(b"\r\n\r\nabc")
    assert (application.at_once_asked, application.tasks) == (0, 1)


def test_client_that_expects_100_is_asked_for_body():
    pieces = [post(b"abc", CLOSE, b"expect: 100-continue")[:-3], b"abc"]
    answered, application = exchange(FAST, pieces, pause_seconds=0.01)
    assert answered.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert application.tasks == 1


def test_caller_that_leaves_in_middle_leaves_nothing_behind():
    answered, application = exchange(FAST, [post(b"abc")[:-1]], closes=False)
    assert answered == b""
    assert application.tasks <= 1


def test_connection_of_server_that_ends_ends_with_response():
    for ours in (PLAIN, FAST):
        answered, _ = exchange(ours, [post(b"one")], is_ending=True)
        assert answered.endswith(b"connection: close\r\n\r\none")


class Replies(Echo):
    """Responds with a whole reply, whatever is asked, or fails to."""

    async def respond(self, scope, receive, send, asked=None):
        if scope["path"] == "/fails":
            raise ValueError
        return Reply(403, HEAD % 4, b"body")

    __call__ = respond


def test_whole_response_to_head_has_no_body():
    head = b"HEAD %s HTTP/1.1\r\nhost: x\r\n\r\n"
    for ours in (PLAIN, FAST):
        pieces = [head % b"/refused", head % b"/fails"]
        answered, _ = exchange(ours, pieces, pause_seconds=0.01, application=Replies())
        refused = b"HTTP/1.1 403 Forbidden\r\n" + HEAD % 4 + b"\r\n"
        assert answered.startswith(refused + b"HTTP/1.1 500 ")
        assert answered.endswith(b"connection: close\r\n\r\n")


class Line:
    """A client's line; what is written to it, and whether it was hung up."""

    def __init__(self):
        self.written = b""
        self.is_closed = False

    def writelines(self, parts):
        self.write(b"".join(parts))

    def write(self, data):
        assert not self.is_closed
        self.written += data

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else None

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def connected(application):
    """A connection on a line of its own."""
    made = FastPath(listener(application))
    line: Any = Line()
    made.connection_made(line)
    return made, line


def test_first_answer_of_turn_goes_at_once_and_others_together():
    async def go():
        application = Echo()
        lines = []
        for body in (b"a", b"b", b"c"):
            connection, line = connected(application)
            connection.data_received(post(body))
            lines.append(line)
        before = [line.written[-1:] for line in lines]
        await asyncio.sleep(0)
        return before, [line.written[-1:] for line in lines]

    assert asyncio.run(go()) == ([b"a", b"", b""], [b"a", b"b", b"c"])


REFUSED = RefusedRequest("The process ends.", status=503, code="shutting_down")


@pytest.mark.parametrize(
    ("end", "closes"),
    [
        (lambda it: it.eof_received(), False),
        (lambda it: it.end(), True),
        (lambda it: it.cut(REFUSED), True),
        (lambda it: it.data_received(b"no HTTP\r\n\r\n"), True),
        (lambda it: it.data_received(post(b"z", CLOSE)), True),
    ],
)
def test_pending_answer_is_written_before_connection_ends(end, closes):
    async def go():
        application = Echo()
        connected(application)[0].data_received(post(b"a"))
        connection, line = connected(application)
        connection.data_received(post(b"b"))
        assert line.written == b""
        end(connection)
        await asyncio.sleep(0)
        return line.written, line.is_closed

    written, is_closed = asyncio.run(go())
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.split(b"\r\n\r\n")[1][:1] == b"b"
    assert is_closed is closes


def test_client_has_one_waiting_answer_at_most():
    """Who asks for many in one go and reads none would else never be noticed."""

    async def go():
        application = Echo()
        connected(application)[0].data_received(post(b"a"))
        connection, line = connected(application)
        connection.data_received(post(b"b") + post(b"c") + post(b"d"))
        return line.written.count(b"HTTP/1.1 200 OK")

    assert asyncio.run(go()) == 2


@pytest.mark.parametrize("body", [b"look", b"look in vain", b"look in vain, bought"])
@pytest.mark.parametrize(
    "meet",
    [
        lambda it: it.data_received(post(b"z", CLOSE)),
        lambda it: it.data_received(post(b"z")[:9]),
        lambda it: it.data_received(b"no HTTP\r\n\r\n"),
        lambda it: it.end(),
        lambda it: it.end_after_last(),
        lambda it: it.cut(REFUSED),
        lambda it: it.eof_received(),
        lambda it: it.connection_lost(None),
    ],
)
def test_waiting_request_with_known_head_behaves_as_parsed_one(body, meet):
    async def go(application):
        connection, line = connected(application)
        connection.data_received(post(body))
        meet(connection)
        async with asyncio.timeout(1):
            tasks = connection.listener.tasks
            await asyncio.gather(*tasks, asyncio.sleep(0.05), return_exceptions=True)
        return line.written, line.is_closed

    first, second = Echo(), Echo()
    parsed = asyncio.run(go(first))
    second.known_heads = first.known_heads
    assert asyncio.run(go(second)) == parsed
    assert second.parsed == first.parsed[1:]
    assert second.tasks == first.tasks


def test_connection_that_has_ended_is_gone_without_collection_of_garbage():
    async def go():
        application = Echo()
        connection, line = connected(application)
        for body in (b"a", b"b", b"look"):
            connection.data_received(post(body))
            await asyncio.sleep(0.02)
        connection.data_received(post(b"look"))
        kept = [weakref.ref(it) for it in (connection, connection.answering)]
        line.close()
        connection.connection_lost(None)
        del connection, line
        await asyncio.sleep(0.02)
        return [it() for it in kept]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(go()) == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"no HTTP\r\n\r\n"],
        [b"CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"],
        [b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n"],
        [post(b"look"), post(b"a") * 66],
        [post(b"look"), b"no HTTP\r\n\r\n"],
    ],
)
def test_refused_connection_is_freed_without_garbage_collector(pieces):
    async def go():
        application = Echo()
        application.bounds = Bounds(methods=("GET",) if pieces[0].startswith(b"DELETE") else ())
        application.held_look_ups = []
        connection, line = connected(application)
        for piece in pieces:
            connection.data_received(piece)
        kept = weakref.ref(connection)
        line.close()
        connection.connection_lost(None)
        application.held_look_ups.clear()
        del connection, line
        await asyncio.sleep(0)
        return kept()

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(go()) is None
    finally:
        gc.enable()


def test_answer_to_closed_connection_is_dropped():
    async def go():
        application = Echo()
        connected(application)[0].data_received(post(b"a"))
        connection, line = connected(application)
        connection.data_received(post(b"b"))
        line.close()
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return line.written

    assert asyncio.run(go()) == b""


@pytest.mark.parametrize("is_ending", [False, True])
def test_closed_connection_with_several_requests_is_not_written_to(is_ending, caplog):
    async def go():
        application = Echo()
        connection, line = connected(application)
        connection.data_received(post(b"slow") + post(b"slow, too"))
        connection.listener.is_ending = is_ending
        line.close()
        connection.connection_lost(None)
        await asyncio.gather(*connection.listener.tasks)
        return line.written, application.tasks

    assert asyncio.run(go()) == (b"", 1)
    assert caplog.text == ""


def test_closed_connection_stops_waiting_for_bought_answer():
    async def go():
        application = Echo()
        connection, line = connected(application)
        connection.data_received(post(b"look in vain, bought"))
        await asyncio.sleep(0.015)  # it has been looked up, and is bought
        line.close()
        connection.connection_lost(None)
        await asyncio.gather(*connection.listener.tasks, return_exceptions=True)
        return application.left, line.written

    assert asyncio.run(go()) == (1, b"")
