"""A write is checked on its connection, just before it is sent, and one at a time."""

import http.server
import threading
from contextlib import contextmanager

import pytest
import urllib3

from embedding_operator import errors
from embedding_operator.kube import fence


@contextmanager
def served():
    """A server that keeps the methods that arrived."""
    arrived = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            arrived.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the server's names

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", arrived
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def fenced(check):
    with served() as (url, arrived), urllib3.PoolManager(retries=False) as manager:
        fence.put_before(manager, check)
        yield lambda method, **named: manager.request(method, url, **named), arrived


def refuse():
    raise errors.NotHolder("no")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_refused_write_is_not_sent(method):
    with fenced(refuse) as (send, arrived):
        with pytest.raises(errors.NotHolder):
            send(method, body=b"{}")
        assert send("GET").status == 200
        assert arrived == ["GET"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_allowed_write_is_sent_as_it_is(method):
    with fenced(lambda: None) as (send, arrived):
        assert send(method, body=b"{}").status == 200
        assert arrived == [method]


def test_connection_of_other_manager_is_not_checked():
    with fenced(refuse), served() as (url, arrived), urllib3.PoolManager() as other:
        assert other.request("POST", url, body=b"{}").status == 200
        assert arrived == ["POST"]


def test_one_write_at_most_is_between_check_and_sending():
    """As if the process was stopped after the first check, and the Lease was lost meanwhile."""
    entered, go_on = threading.Event(), threading.Event()
    lost: list[int] = []

    def check():
        if lost:
            raise errors.NotHolder("lost")
        entered.set()
        go_on.wait(10)

    refused = []

    def write(send):
        try:
            send("POST", body=b"{}")
        except errors.NotHolder:
            refused.append(1)

    with fenced(check) as (send, arrived):
        threads = [threading.Thread(target=write, args=(send,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        assert entered.wait(10)
        lost.append(1)
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert arrived == ["POST"]
        assert len(refused) == 4


def test_lock_is_free_after_refusal():
    allowed: list[int] = []

    def check():
        if not allowed:
            raise errors.NotHolder("no")

    with fenced(check) as (send, arrived):
        with pytest.raises(errors.NotHolder):
            send("POST")
        allowed.append(1)
        assert send("POST").status == 200
        assert arrived == ["POST"]
