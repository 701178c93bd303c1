"""Probes and scrapes are answered, whatever other clients reach the port."""

import asyncio
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

from embedding_operator.serving import listener
from embedding_operator.serving.listener import Reply
from tests.parts import ports

PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def listening():
    def fails(_):
        raise RuntimeError("a bug")

    made = listener.Listener(
        port=ports.free(),
        pages={
            "/healthz": lambda _: Reply(HTTPStatus.OK, b"ok\n"),
            "/accept": lambda accept: Reply(HTTPStatus.OK, accept.encode()),
            "/large": lambda _: Reply(HTTPStatus.OK, b"x" * 50_000_000),
            "/fails": fails,
        },
        name="listener",
    )
    made.start()
    return made


@pytest.fixture(scope="module")
def port(listening):
    return listening._port


def get(port, path="/healthz", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return answer.read()


def connected(port, source="127.0.0.1"):
    return socket.create_connection(
        ("127.0.0.1", port), timeout=PATIENCE_SECONDS, source_address=(source, 0)
    )


def test_page_is_answered(port):
    assert get(port) == b"ok\n"
    assert get(port, "/healthz?verbose=1") == b"ok\n"
    assert get(port, "/accept", Accept="text/plain") == b"text/plain"


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/fails", 500)])
def test_unanswerable_request_says_so(port, path, status):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, path)
    assert refused.value.code == status
    refused.value.close()
    assert get(port) == b"ok\n"


@pytest.mark.parametrize("head", [b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"])
def test_request_other_than_get_is_refused(port, head):
    with connected(port) as client:
        client.sendall(head)
        assert client.makefile("rb").readline().startswith(b"HTTP/1.1 400 ")


def test_connection_is_for_one_request(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    client.request("GET", "/healthz")
    answer = client.getresponse()
    assert answer.getheader("Connection") == "close"
    assert answer.read() == b"ok\n"
    client.close()


def ended(client):
    """Whether the other side has ended the connection, by then at the latest."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_head_that_is_too_long_ends_connection(port):
    with connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\na: " + b"b" * 4 * listener.HEAD_BYTES)
        assert ended(client)


def test_head_that_never_ends_ends_with_its_time(port, monkeypatch):
    monkeypatch.setattr(listener, "EXCHANGE_SECONDS", 0.3)
    with connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert ended(client)


def test_client_that_does_not_read_is_not_waited_for(listening, port, monkeypatch):
    monkeypatch.setattr(listener, "EXCHANGE_SECONDS", 0.3)
    with connected(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while listening._open:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_flood_of_connections_does_not_keep_probe_from_its_answer(port):
    """Of one address, and of many, each with as many connections as it can have."""
    opened = []
    try:
        for number in range(3 * listener.CONNECTIONS):
            opened.append(connected(port, f"127.0.5.{number % 50 + 1}"))
            if number % 10 == 0:
                assert get(port) == b"ok\n"
        assert get(port) == b"ok\n"
    finally:
        for client in opened:
            client.close()


def test_flood_that_goes_on_does_not_either(port):
    stop = threading.Event()

    def flood(source):
        while not stop.is_set():
            held = [connected(port, source) for _ in range(20)]
            for client in held:
                client.close()

    threads = [threading.Thread(target=flood, args=(f"127.0.6.{it}",)) for it in range(1, 4)]
    for thread in threads:
        thread.start()
    try:
        assert [get(port) for _ in range(20)] == [b"ok\n"] * 20
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_connection_too_many_ends_oldest_of_address_that_has_most(port):
    one = connected(port, "127.0.7.1")
    many = [connected(port, "127.0.7.2") for _ in range(listener.CONNECTIONS)]
    try:
        assert ended(many[0])
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for client in (one, *many):
            client.close()


class Transport(asyncio.WriteTransport):
    """A connection of which only the end is told."""

    def __init__(self):
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True


def test_connections_that_come_in_one_turn_end_each_another_one():
    """None of them has noticed its end by then."""
    made = listener.Listener(port=0, pages={}, name="listener")
    few, many = Transport(), [Transport() for _ in range(3 * listener.CONNECTIONS)]
    made._admit("127.0.8.1", few)
    for transport in many:
        made._admit("127.0.8.2", transport)
    alive = [it for it in (few, *many) if not it.is_aborted]
    assert alive == [few, *many[-listener.CONNECTIONS + 1 :]]
    assert sum(map(len, made._open.values())) == listener.CONNECTIONS
