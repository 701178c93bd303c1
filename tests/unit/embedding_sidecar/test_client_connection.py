"""Bounds on the bytes before a request, on real sockets."""

import asyncio
import contextlib
import json
import queue
import socket
import threading

import pytest
import uvloop

from embedding_http import server
from embedding_http.bounds import ORDINARY, Bounds, RefusedRequest
from embedding_http.protocol import HttpProtocol, Listener

HEAD = b"POST /anything HTTP/1.1\r\nhost: here\r\n"
IMPATIENT = Bounds(head_seconds=0.2)
LONG = b"x" * ORDINARY.head_bytes


async def application(scope, receive, send):
    """Refuses /refused before its body; else answers with the size of the body.

    The answer to /endless begins, and goes on until the client leaves.
    """
    size = 0
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    while scope["path"] != "/refused":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def served(bounds):
    """The port on which it is served."""
    listening = server.listen(0, host=server.LOOPBACK)
    ended = asyncio.Event()
    loops: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()

    async def serve():
        loops.put(asyncio.get_running_loop())
        listener = Listener(application=application, bounds=bounds)
        await server.Server(listener).serve(listening, until=ended)

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    number = listening.getsockname()[1]
    thread = threading.Thread(target=run)
    thread.start()
    yield number
    loops.get().call_soon_threadsafe(ended.set)
    thread.join()


@pytest.fixture
def bounds():
    return ORDINARY


@pytest.fixture
def port(bounds):
    with served(bounds) as number:
        yield number


@pytest.fixture
def client(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        yield connected


def whole(client):
    """All that comes until the server closes."""
    parts = []
    # It may close with our bytes unread.
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def refused(answer):
    """The status and OpenAI's `type`."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]["type"]


def send(client, data):
    """Send it, as far as the server takes it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(data)


def test_request_is_answered_and_connection_kept(client):
    for size in (0, 5, 200_000):
        client.sendall(HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size)
        assert client.recv(65_536).endswith(b"\r\n\r\n%d" % size)


def test_head_just_within_bound_is_taken(client):
    rest = ORDINARY.head_bytes - len(HEAD) - len(b"long: \r\n\r\n")
    client.sendall(HEAD + b"long: " + b"x" * rest + b"\r\n\r\n")
    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"long: " + LONG[: -len(HEAD)] + b"\r\n\r\n",
        HEAD + b"long: " + LONG * 20,
        HEAD + b"short: x\r\n" * 20_000,
        b"GET /" + LONG,
    ],
    ids=["complete", "one header without end", "many headers", "path"],
)
def test_head_beyond_bound_is_refused(client, data):
    send(client, data)
    assert refused(whole(client)) == (431, "invalid_request_error")


def test_head_that_comes_in_small_pieces_has_same_bound(client):
    send(client, HEAD)
    for _ in range(80):
        send(client, b"long: " + b"x" * 1_000 + b"\r\n")
    assert refused(whole(client)) == (431, "invalid_request_error")


def test_bytes_that_are_not_http_are_refused_in_same_form(client):
    client.sendall(b"\x16\x03\x01\x02\x00 hello TLS\r\n\r\n")
    assert refused(whole(client)) == (400, "invalid_request_error")


@pytest.mark.parametrize("url", [b"http://x:99999999/", b"http://[", b"http://"])
def test_invalid_url_is_refused_and_nothing_else_happens(client, caplog, url):
    client.sendall(b"GET " + url + b" HTTP/1.1\r\nhost: here\r\n\r\n")
    assert refused(whole(client)) == (400, "invalid_request_error")
    assert "Traceback" not in caplog.text
    assert "AttributeError" not in caplog.text


@pytest.mark.parametrize("bounds", [IMPATIENT])
def test_slow_head_is_refused(client):
    client.sendall(HEAD)
    assert refused(whole(client)) == (408, "invalid_request_error")


@pytest.mark.parametrize("bounds", [IMPATIENT])
def test_slow_second_head_is_refused(client):
    client.sendall(HEAD + b"content-length: 0\r\n\r\n")
    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
    client.sendall(HEAD)
    assert refused(whole(client)) == (408, "invalid_request_error")


@pytest.mark.parametrize("bounds", [IMPATIENT])
def test_silent_connection_is_not_kept(client):
    assert whole(client) == b""


@pytest.mark.parametrize("bounds", [Bounds(keep_alive_seconds=1)])
def test_idle_connection_is_not_kept(client):
    client.sendall(HEAD + b"content-length: 0\r\n\r\n")
    assert whole(client).endswith(b"\r\n\r\n0")


@pytest.mark.parametrize("bounds", [IMPATIENT])
def test_connection_that_sends_rest_of_refused_body_is_not_kept(client):
    client.sendall(b"POST /refused HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n")
    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
    client.sendall(b"x")
    assert whole(client) == b""


@pytest.mark.parametrize("bounds", [IMPATIENT])
def test_request_under_way_has_as_much_time_as_it_needs(client):
    """The body comes long after the head was due."""
    client.sendall(HEAD + b"content-length: 2\r\n\r\n")
    client.settimeout(1.0)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    client.sendall(b"xx")
    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")


ENDLESS = b"GET /endless HTTP/1.1\r\nhost: here\r\n\r\n"
BEGUN = b"\r\n\r\n5\r\nbegun\r\n"


@pytest.mark.parametrize(
    "data",
    [b"\x00 no HTTP\r\n\r\n", HEAD + b"content-length: 1\r\n\r\nx" + b"\x00 no HTTP\r\n\r\n"],
    ids=["at once", "after another request"],
)
def test_bytes_that_are_not_http_end_begun_answer_without_writing(client, data):
    client.sendall(ENDLESS)
    answer = b""
    while not answer.endswith(BEGUN):
        answer += client.recv(65_536)
    client.sendall(data)
    assert whole(client) == b""


def test_cut_connection_leaves_answer_before_others_untouched():
    async def scenario():
        listener = Listener(application=application)
        serving = await asyncio.get_running_loop().create_server(
            lambda: HttpProtocol(listener), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*serving.sockets[0].getsockname())
        writer.write(ENDLESS + HEAD + b"content-length: 0\r\n\r\n")
        await reader.readuntil(BEGUN)
        for connection in listener.connections:
            connection.cut(RefusedRequest("It ends.", status=503, code="shutting_down"))
        answered = await reader.read()
        writer.close()
        serving.close()
        for task in list(listener.tasks):
            task.cancel()
        await asyncio.gather(*listener.tasks, return_exceptions=True)
        return answered

    assert asyncio.run(scenario()) == b""
