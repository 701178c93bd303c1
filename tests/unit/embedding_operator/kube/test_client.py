"""One call to the API server has one time-out, whatever the server does."""

import socket
import threading
from contextlib import contextmanager

import kubernetes
import pytest

from embedding_operator import errors
from embedding_operator.kube import client, deadline, kinds


class Server:
    """Accepts connections, and answers each with what it is told."""

    def __init__(self, answer, *, every_seconds):
        self._answer = answer
        self._every_seconds = every_seconds
        self.accepted = 0
        self.stop = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(0.1)
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self):
        threads = []
        while not self.stop.is_set():
            try:
                client, _ = self.listening.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            threads.append(threading.Thread(target=self._serve, args=(client,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        self.listening.close()

    def _serve(self, client):
        with client:
            client.recv(65_536)
            for piece in self._answer:
                try:
                    client.sendall(piece)
                except OSError:
                    return
                if self.stop.wait(self._every_seconds):
                    return
            self.stop.wait()


@contextmanager
def served(*answer, every_seconds=0.05):
    server = Server(answer, every_seconds=every_seconds)
    configuration = kubernetes.client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.listening.getsockname()[1]}"
    try:
        yield server, client.KubeClient(kubernetes.client.ApiClient(configuration))
    finally:
        server.stop.set()
        server.thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "says nothing": (),
    "drips a body": (HEAD, *[b" "] * 100_000),
    "drips chunks": (CHUNKS, *[b"1\r\n \r\n"] * 100_000),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_server_that_does_not_end_its_answer_is_away_at_deadline(answer):
    with served(*answer) as (server, api), deadline.within(0.5):
        with pytest.raises(errors.Unavailable) as away:
            api.get(kinds.POLICY, "shop", "search")
        assert away.value.reason == "APIServerAway"
        assert server.accepted == 1  # and is not asked again behind our back
        with pytest.raises(errors.Unavailable) as late:
            api.get(kinds.POLICY, "shop", "search")
        assert late.value.reason == "DeadlineExceeded"
        assert server.accepted == 1


def test_server_that_is_busy_is_not_waited_for():
    busy = b"HTTP/1.1 429 X\r\nRetry-After: 3600\r\nContent-Length: 2\r\n\r\n{}"
    with served(busy) as (server, api):
        with pytest.raises(errors.Unavailable) as refused:
            api.get(kinds.POLICY, "shop", "search")
        assert refused.value.reason == "APIServerBusy"
        assert refused.value.retry_after_seconds == 3600
        assert server.accepted == 1


def test_conflict_is_type_of_its_own():
    with served(b"HTTP/1.1 409 X\r\nContent-Length: 2\r\n\r\n{}") as (_, api):
        with pytest.raises(errors.Conflict) as refused:
            api.create(kinds.JOB, "shop", {})
        assert refused.value.reason == "Conflict"


def test_body_in_pieces_is_read_whole():
    body = b'{"items": [' + b"1," * 1000 + b"1]}"
    pieces = [CHUNKS, *(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body), b"0\r\n\r\n"]
    with served(*pieces, every_seconds=0.0) as (_, api):
        assert api.get(kinds.POLICY, "shop", "search") == {"items": [1] * 1001}


@pytest.mark.parametrize("name", ["", ".", "..", "/corporate", "a/../../secrets/b", "a%2Fb"])
def test_object_of_impossible_name_is_absent_without_request(name):
    with served() as (server, api):
        assert api.get(kinds.CONFIG_MAP, "shop", name) is None
        assert server.accepted == 0
