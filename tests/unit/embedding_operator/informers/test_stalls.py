"""An API server, or the network to it, that stops in the middle of a line."""

import json
import socket
import threading
from contextlib import contextmanager

import kubernetes
import pytest

from embedding_operator.informers import lines, pages, reflector, store
from embedding_operator.informers.fifo_lock import FifoLock
from embedding_operator.informers.pages import Pages, Source
from embedding_operator.informers.policy_objects import policy
from embedding_operator.kube import client, kinds
from tests.parts.waiting import eventually

POLICIES = Source(kind=kinds.POLICY)
CONFIG_MAPS = Source(kind=kinds.CONFIG_MAP)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(body):
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def listed(*items):
    return chunk(
        json.dumps({"metadata": {"resourceVersion": "5"}, "items": items}).encode()
    ) + chunk(b"")


def made(name, version):
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
        "spec": {"large": "x" * 2 * lines.SMALL_BYTES},
    }


class Server:
    """Lists are answered. The first watch stops in the middle of a long line; later ones go on."""

    def __init__(self):
        self.watches = []
        self.stop = threading.Event()
        self.stalled = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(0.1)
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while not self.stop.is_set():
            try:
                client, _ = self.listening.accept()
            except TimeoutError:
                continue
            self.threads.append(threading.Thread(target=self.serve, args=(client,)))
            self.threads[-1].start()

    def serve(self, client):
        with client:
            request = client.recv(65_536)
            while request:
                if b"watch=1" in request:
                    self.watch(client, request)
                    return
                client.sendall(HEAD + listed())
                request = client.recv(65_536)

    def watch(self, client, request):
        self.watches.append(request.split(b"resourceVersion=")[1].split(b"&")[0])
        event = json.dumps({"type": "ADDED", "object": made("search", "7")}).encode() + b"\n"
        is_first = len(self.watches) == 1
        client.sendall(HEAD + chunk(event[: lines.SMALL_BYTES + 1000 if is_first else None]))
        if is_first:
            self.stalled.set()
        self.stop.wait()

    def close(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.listening.close()


@contextmanager
def served():
    server = Server()
    configuration = kubernetes.client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.listening.getsockname()[1]}"
    try:
        yield server, client.KubeClient(kubernetes.client.ApiClient(configuration))
    finally:
        server.close()


@pytest.mark.timeout(60)
def test_line_that_stops_in_its_middle_keeps_no_other_kind_waiting(monkeypatch):
    monkeypatch.setattr(pages, "READ_SECONDS", 0.3)
    turn, stopping = FifoLock(), threading.Event()
    with served() as (server, api):
        policies = store.Store(policy, changed=lambda _, __: None)
        others = Pages(CONFIG_MAPS, policy, stream=api.stream, lock=turn)
        of_policies = Pages(POLICIES, policy, stream=api.stream, lock=turn)
        watching = reflector.Reflector(
            POLICIES,
            stream=api.stream,
            relist=lambda moved: policies.refill(of_policies.each(moved=moved)),
            told=policies.told,
            skipped=lambda _: None,
            lock=turn,
        )
        thread = threading.Thread(target=watching.run, args=(stopping,))
        thread.start()
        try:
            assert server.stalled.wait(30)
            eventually(turn.locked)
            assert [page.version for page in others.each()] == ["5"]
            eventually(lambda: policies.kept("shop", "search"))
            # It goes on from where it was, without a list.
            assert server.watches == [b"5", b"5"]
        finally:
            stopping.set()
            server.stop.set()
            thread.join()
