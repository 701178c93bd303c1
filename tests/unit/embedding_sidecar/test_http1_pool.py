"""Kept connections: which are reused, how each ends, and that none is left open."""

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import (
    answer_body,
    http1_pool,
    http1_request,
    http1_response,
    tls_authorities,
)
from tests.parts import loops, raw_server, whole_body
from tests.parts.callbacks import come

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LOST = ("connection_lost", True)
ORIGIN = http1_request.Origin(tls=False, host="a", port=80)


@pytest.fixture(params=loops.LOOPS)
def run(request):
    return functools.partial(loops.run, request.param)


@contextlib.asynccontextmanager
async def asking(**given) -> AsyncIterator[http1_pool.ConnectionPool]:
    parts: dict[str, Any] = {
        "connect_seconds": 5.0,
        "dns_seconds": 10.0,
        "intake": answer_body.Intake(),
        "authorities": tls_authorities.Authorities(),
    }
    made = http1_pool.ConnectionPool(**{**parts, **given})
    try:
        yield made
    finally:
        await asyncio.wait_for(made.close(), 10)


async def post(asked, url, *, body=b"{}", within_seconds=10.0, reader=None):
    request = provider_api.HttpRequest(
        f"{url}/embeddings", body, {"authorization": "Bearer sk-secret"}, reader
    )
    return await come(asked.start, request, within_seconds=within_seconds)


async def failed(asked, url, **given):
    with pytest.raises(errors.Unreachable) as caught:
        await post(asked, url, **given)
    return caught.value.reason, caught.value.billed


class Server:
    """Answers each request with what comes next of `answers`, the last one for ever.

    `connections` tells on which connection, by its number, each request came.
    """

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._opened = 0
        self.connections: list[int] = []
        self.requests: list[bytes] = []
        self.came = asyncio.Event()
        self.closed: asyncio.Queue[int] = asyncio.Queue()

    async def handle(self, reader, writer):
        self._opened += 1
        number = self._opened
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await raw_server.request(reader))
                self.came.set()
                self.connections.append(number)
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                writer.write(answer)
        self.closed.put_nowait(number)


def asked_in_turn(run, *answers, calls=2):
    """The connections on which that many calls came, one after the other."""

    async def go():
        server = Server(*answers)
        async with raw_server.served(server.handle) as url, asking() as made:
            for _ in range(calls):
                await post(made, url)
        return server.connections

    return run(go())


def test_call_is_one_request_with_all_it_needs(run):
    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            answer = await post(made, url, body=b"abc")
        port = url.split(":")[-1].removesuffix("/v1")
        return answer, port, server.requests

    answer, port, seen = run(go())
    assert (answer.status, answer.headers, answer.body) == (200, {"content-length": "2"}, b"ok")
    assert seen == [
        f"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        "authorization: Bearer sk-secret\r\ncontent-length: 3\r\n\r\nabc".encode()
    ]


@pytest.mark.parametrize("body", [b"", b"x" * 3_000_000])
def test_body_of_any_size_goes_and_comes_whole(run, body):
    async def go():
        async def echo(reader, writer):
            sent = (await raw_server.request(reader)).partition(b"\r\n\r\n")[2]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent)
            await writer.drain()

        came = whole_body.WholeBody()
        async with raw_server.served(echo) as url, asking() as made:
            await post(made, url, body=body, reader=came)
        return came.joined()

    assert run(go()) == body


# --- which connection is used again


def test_connection_is_kept_for_next_call(run):
    assert asked_in_turn(run, OK, calls=3) == [1, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
        OK + b"\x00",
    ],
)
def test_connection_that_is_not_to_be_kept_is_closed(run, answer):
    assert asked_in_turn(run, answer) == [1, 2]


def test_end_of_connection_ends_answer_without_length(run):
    async def go():
        async def handler(reader, writer):
            await raw_server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nall")

        async with raw_server.served(handler) as url, asking() as made:
            return [(await post(made, url)).body for _ in range(2)]

    assert run(go()) == [b"all", b"all"]


def test_concurrent_calls_have_own_connections_newest_first(run):
    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            await asyncio.gather(*(post(made, url) for _ in range(40)))
            at_once = set(server.connections)
            await post(made, url)
            last = server.connections[-1]
            for _ in range(5):
                await post(made, url)
        return at_once, last, server.connections[-5:]

    at_once, last, after = run(go())
    assert at_once == set(range(1, 41))
    assert after == [last] * 5


def test_connection_that_was_closed_meanwhile_is_not_used(run):
    async def go():
        opened = []

        async def once(reader, writer):
            opened.append(writer)
            await raw_server.request(reader)
            writer.write(OK)

        async with raw_server.served(once) as url, asking() as made:
            await post(made, url)
            await made._is_empty.wait()
            assert not any(made._idle.values())
            answer = await post(made, url)
        return answer.body, len(opened)

    assert run(go()) == (b"ok", 2)


def test_connection_that_is_being_closed_is_not_used(run):
    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            await post(made, url)
            (idle,) = made._open
            idle.close()
            await post(made, url)
        return server.connections

    assert run(go()) == [1, 2]


def test_recently_used_connection_outlives_older_ones(run):
    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            await post(made, url)
            assert made._sweeping is not None
            made._sweeping.cancel()
            made._sweep()
            await post(made, url)
        return server.connections

    assert run(go()) == [1, 1]


def test_connection_that_says_what_nobody_asked_for_is_closed(run):
    async def go():
        server = Server(OK)
        writers = []

        async def handler(reader, writer):
            writers.append(writer)
            await server.handle(reader, writer)

        async with raw_server.served(handler) as url, asking() as made:
            await post(made, url)
            writers[0].write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
            assert await server.closed.get() == 1
            answer = await post(made, url)
        return answer.body, server.connections

    assert run(go()) == (b"ok", [1, 2])


def test_connection_that_answers_before_it_has_read_all_is_closed(run):
    async def go():
        opened = []

        async def hasty(reader, writer):
            opened.append(writer)
            await raw_server.head(reader)
            writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
            await asyncio.sleep(10)

        async with raw_server.served(hasty) as url, asking() as made:
            statuses = [(await post(made, url, body=b"x" * 30_000_000)).status for _ in range(2)]
        return statuses, len(opened)

    assert run(go()) == ([413, 413], 2)


def test_connection_without_call_is_closed_after_some_time(run, monkeypatch):
    monkeypatch.setattr(http1_pool, "KEPT_SECONDS", 0.05)

    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            await asyncio.gather(post(made, url), post(made, url))
            assert {await server.closed.get(), await server.closed.get()} == {1, 2}
            await post(made, url)
        return server.connections[-1]

    assert run(go()) == 3


def test_connection_has_one_timer_and_idle_ones_share_one():
    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            for _ in range(3):
                await asyncio.gather(*(post(made, url) for _ in range(10)))
            return len(loops.timers())

    assert asyncio.run(go()) == 10 + 1


# --- how a call fails, and what stays behind: nothing


async def closed_when_asked(reader, writer):
    del writer
    await raw_server.request(reader)


async def aborted(reader, writer):
    await raw_server.request(reader)
    writer.transport.abort()


def saying(*answers):
    async def handler(reader, writer):
        await raw_server.request(reader)
        for answer in answers:
            writer.write(answer)
            await writer.drain()
            await asyncio.sleep(0.01)

    return handler


@pytest.mark.parametrize(
    "handler",
    [
        closed_when_asked,
        aborted,
        saying(b"HTTP/1.1 200 OK\r\ncontent-len"),
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"),
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"),
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab"),
        saying(b"HTTP/1.1 100 Continue\r\n\r\n"),
        saying(b"hello\r\n\r\n"),
        saying(*[b"HTTP/1.1 200 OK\r\nx: y\r\n"], *[b"z: " + b"y" * 30_000 + b"\r\n"] * 20),
    ],
)
def test_incomplete_answer_is_lost_connection(run, handler):
    async def go():
        async with raw_server.served(handler) as url, asking() as made:
            return await failed(made, url)

    assert run(go()) == LOST


async def mute(reader, writer):
    del writer
    await reader.read()


@pytest.mark.parametrize("handler", [mute, raw_server.half])
def test_call_that_takes_too_long_ends_with_its_connection(run, handler):
    async def go():
        server_saw_end = asyncio.Event()

        async def watched(reader, writer):
            await handler(reader, writer)
            server_saw_end.set()

        async with raw_server.served(watched) as url, asking() as made:
            found = await failed(made, url, within_seconds=0.1)
            await server_saw_end.wait()
        return found

    assert run(go()) == ("timeout", True)


@pytest.mark.parametrize("handler", [mute, raw_server.half])
def test_call_that_is_cancelled_ends_with_its_connection(run, handler):
    async def go():
        reached, ended = asyncio.Event(), asyncio.Event()

        async def watched(reader, writer):
            reached.set()
            await handler(reader, writer)
            ended.set()

        async with raw_server.served(watched) as url, asking() as made:
            task = asyncio.create_task(post(made, url))
            await reached.wait()
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await ended.wait()
            return task.cancelled(), made._open, made._idle

    assert run(go()) == (True, set(), {})


def test_dial_cancelled_as_it_succeeds_leaves_nothing_to_wait_for(run):
    """uvloop closes such a connection, and never says that it is lost."""

    async def go():
        server = Server(OK)
        async with raw_server.served(server.handle) as url, asking() as made:
            request = provider_api.HttpRequest(f"{url}/embeddings", b"{}", {})
            told: list[Any] = []
            real = http1_pool.Connection.connection_made

            def made_and_cancelled(self, transport):
                real(self, transport)
                cancel()

            with mock.patch.object(http1_pool.Connection, "connection_made", made_and_cancelled):
                cancel = made.start(request, within_seconds=10.0, done=told.append)
                await asyncio.wait_for(server.closed.get(), 10)
            return told

    assert run(go()) == []


@pytest.mark.parametrize("limits", [(0.1, 60.0), (60.0, 0.1)])
def test_call_that_is_not_accepted_in_time_was_never_sent(run, limits):
    connect_seconds, within_seconds = limits

    async def go():
        with raw_server.full() as (host, port):
            url = f"http://{host}:{port}"
            async with asking(connect_seconds=connect_seconds) as made:
                return await failed(made, url, within_seconds=within_seconds)

    assert run(go()) == ("connect_timeout", False)


def test_call_that_is_cancelled_while_it_connects_leaves_nothing(run):
    async def go():
        with raw_server.full() as (host, port):
            url = f"http://{host}:{port}"
            async with asking() as made:
                task = asyncio.create_task(post(made, url))
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return task.cancelled()

    assert run(go())


@pytest.mark.parametrize("url", ["ftp://a", "http://a b", "http://u@a", f"http://{'a' * 64}.b"])
def test_url_that_leads_nowhere_was_never_asked(run, url):
    async def go():
        async with asking() as made:
            return await failed(made, url)

    assert run(go()) == ("no_connection", False)


def test_closing_ends_calls_and_idle_connections(run):
    async def go():
        reached = asyncio.Event()
        server = Server(OK)

        async def handler(reader, writer):
            if not server.connections:
                await server.handle(reader, writer)
                return
            await raw_server.request(reader)
            reached.set()
            await reader.read()

        async with raw_server.served(handler) as url, asking() as made:
            await post(made, url)
            under_way = made._kept(next(iter(made._idle)))
            asked = asyncio.create_task(failed(made, url))
            await reached.wait()
            assert under_way is not None
            made.free(under_way, now=asyncio.get_running_loop().time())
            await made.close()
            assert await server.closed.get() == 1
            return await asked, await failed(made, url)

    assert run(go()) == (LOST, ("no_connection", False))


# --- a call that ends in the very moment in which something else happens to it


class Wire(asyncio.Transport):
    """A transport that only tells what became of it."""

    def __init__(self):
        super().__init__()
        self.is_aborted = False
        self.sent = []

    def abort(self):
        self.is_aborted = True

    def is_closing(self):
        return self.is_aborted

    def writelines(self, data):
        self.sent.append(data)

    def get_write_buffer_size(self):
        return 0


async def connected():
    owner = mock.Mock()
    owner.writes.send = lambda send: send()
    made = http1_pool.Connection(ORIGIN, owner=owner)
    made.connection_made(Wire())
    return made


async def begin(connection, *, seconds=10.0):
    task = asyncio.create_task(come(connection.start, b"head", b"body", within_seconds=seconds))
    await asyncio.sleep(0)
    return task


def test_caller_that_leaves_as_answer_comes_does_not_end_next_call():
    async def go():
        connection = await connected()
        first = await begin(connection)
        connection.data_received(OK)
        first.cancel()
        second = asyncio.create_task(come(connection.start, b"head", b"body", within_seconds=10))
        await asyncio.gather(first, return_exceptions=True)
        assert connection.is_open
        connection.data_received(OK)
        return first.cancelled(), (await second).body

    assert asyncio.run(go()) == (True, b"ok")


def test_answer_to_leaving_caller_is_dropped():
    async def go():
        connection = await connected()
        first = await begin(connection)
        first.cancel()
        connection.data_received(OK)
        await asyncio.gather(first, return_exceptions=True)
        return first.cancelled(), connection.is_open

    assert asyncio.run(go()) == (True, True)


def test_time_of_call_is_not_that_of_next():
    async def go():
        connection = await connected()
        first = await begin(connection, seconds=0.03)
        connection.data_received(OK)
        await first
        second = await begin(connection)
        await asyncio.sleep(0.06)
        connection.data_received(OK)
        return (await second).body

    assert asyncio.run(go()) == b"ok"


def test_server_that_sends_nonsense_is_not_waited_for(run):
    async def go():
        async def handler(reader, writer):
            await raw_server.request(reader)
            writer.write(b"hello\r\n\r\n")
            await reader.read()

        async with raw_server.served(handler) as url, asking() as made:
            return await failed(made, url)

    assert run(go()) == LOST


def test_connection_that_is_closed_before_anything_was_sent_cost_nothing(monkeypatch):
    async def dial(_, make):
        connection = make()
        connection.connection_made(Wire())
        connection.close()
        connection.connection_lost(None)
        return connection

    async def go():
        async with asking() as made:
            monkeypatch.setattr(made._dialer, "dial", dial)
            return await failed(made, "http://a")

    assert asyncio.run(go()) == ("no_connection", False)


def test_kept_state_shows_no_key():
    async def go():
        reached = asyncio.Event()

        async def handler(reader, writer):
            await raw_server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n")
            reached.set()
            await reader.read()

        async with raw_server.served(handler) as url, asking() as made:
            task = asyncio.create_task(failed(made, url))
            await reached.wait()
            (connection,) = made._open
            kept = [made, vars(made), connection, vars(connection), vars(connection._reader)]
            shown = repr(kept)
            await made.close()
            assert await task == LOST
        return shown

    assert "sk-secret" not in asyncio.run(go())


def test_answer_that_was_cut_short_is_gone_with_its_connection(run):
    """Without waiting for a collection of garbage: it may be long."""
    begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf an answer"

    async def go():
        server = Server(begun)
        async with raw_server.served(server.handle) as url, asking() as made:
            assert await failed(made, url, within_seconds=0.2) == ("timeout", True)
            await asyncio.sleep(0.05)
            readers = [it for it in gc.get_objects() if isinstance(it, http1_response.Reader)]
            return [reader._coming for reader in readers if reader._coming is not None]

    gc.collect()
    gc.disable()
    try:
        assert not run(go())
    finally:
        gc.enable()


@pytest.mark.parametrize(("memory_bytes", "is_given_up"), [(4 * 2**20, True), (2**30, False)])
def test_body_under_way_is_held_against_memory_until_connection_is_lost(
    run, memory_bytes, is_given_up
):
    begun = b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n" + b"x" * 2**21

    async def go():
        enough = asyncio.Event()

        class Body(whole_body.WholeBody):
            def feed(self, chunk):
                super().feed(chunk)
                # A turn later, when the bytes are counted.
                if self.held_bytes == 2**21:
                    asyncio.get_running_loop().call_soon(enough.set)

            def drop(self):
                super().drop()
                enough.set()

        server, intake, came = Server(begun), answer_body.Intake(memory_bytes), Body()
        async with raw_server.served(server.handle) as url, asking(intake=intake) as made:
            asked = asyncio.create_task(failed(made, url, reader=came))
            await enough.wait()
            held = intake.held_bytes
            await made.close()
            await asyncio.gather(asked, return_exceptions=True)
        return came.is_lost, held > 0, intake.held_bytes

    assert run(go()) == (is_given_up, not is_given_up, 0)


# --- begun, without anybody who awaits it


async def begun(*, seconds=10.0, is_sent=True):
    """A call that has been begun, and what is told of it."""
    owner = mock.Mock()  # it sends nothing by itself
    told: list[Any] = []
    connection = http1_pool.Connection(ORIGIN, owner=owner)
    connection.connection_made(Wire())
    cancel = connection.start(b"head", b"body", within_seconds=seconds, done=told.append)
    owner.writes.send.assert_called_once_with(connection.send)
    if is_sent:
        connection.send()
    return connection, told, cancel


def test_caller_is_told_answer_once():
    async def go():
        connection, told, _ = await begun()
        connection.data_received(OK)
        connection.connection_lost(None)
        return [it.body for it in told]

    assert asyncio.run(go()) == [b"ok"]


@pytest.mark.parametrize("is_sent", [True, False])
def test_call_not_sent_when_connection_broke_is_not_billed(is_sent):
    async def go():
        connection, told, _ = await begun(is_sent=is_sent)
        connection.close()
        connection.send()
        connection.connection_lost(None)
        return [(it.reason, it.billed) for it in told]

    assert asyncio.run(go()) == [("connection_lost", is_sent)]


def test_caller_is_told_when_its_time_is_up():
    async def go():
        connection, told, _ = await begun(seconds=0.01)
        await asyncio.sleep(0.05)
        connection.connection_lost(None)
        return [(it.reason, it.billed) for it in told], connection.is_open

    assert asyncio.run(go()) == ([("timeout", True)], False)


def test_cancelled_call_is_neither_told_nor_sent():
    async def go():
        connection, told, cancel = await begun(is_sent=False)
        cancel()
        connection.send()
        connection.connection_lost(None)
        return told, connection.is_open, connection._transport.sent

    assert asyncio.run(go()) == ([], False, [])


def test_cancelling_call_that_is_over_does_not_end_next_one():
    async def go():
        connection, _, cancel = await begun()
        connection.data_received(OK)
        connection.start(b"head", b"body", within_seconds=10.0, done=lambda _: None)
        cancel()
        return connection.is_open

    assert asyncio.run(go())


def test_bytes_before_request_was_sent_are_not_its_answer():
    async def go():
        connection, told, _ = await begun(is_sent=False)
        connection.data_received(OK)
        connection.send()
        connection.connection_lost(None)
        return [(it.reason, it.billed) for it in told], connection._transport.sent

    assert asyncio.run(go()) == ([("connection_lost", False)], [])


def test_call_that_waits_for_its_connection_is_cancelled_with_it(run):
    """Before there is a connection, and once there is one."""

    async def go():
        server = Server(b"")
        told: list[Any] = []
        async with raw_server.served(server.handle) as url, asking() as made:
            for has_come in (False, True):
                request = provider_api.HttpRequest(url, b"x", {})
                cancel = made.start(request, within_seconds=10, done=told.append)
                if has_come:
                    await server.came.wait()
                cancel()
                cancel()
                await made._is_empty.wait()
        return told, len(server.requests), made._open

    assert run(go()) == ([], 1, set())
