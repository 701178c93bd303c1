"""Attacks by other pods of the cluster on the port of an index's pods."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from embedding_contract import names
from embedding_vectors.search import command
from embedding_vectors.serving import server
from tests.parts import searching, sidecar

pytestmark = pytest.mark.integration

ANOTHER_POD = "127.0.0.2"


@pytest.fixture
def pod(tmp_path) -> Iterator[searching.SearchPod]:
    """A search pod; its database need not be there."""
    started = searching.SearchPod(
        tmp_path, document=searching.index(), dsn="host=127.0.0.1 port=1", sidecar_port=1
    )
    yield started
    started.stop()


@contextlib.contextmanager
def hostile(pod: searching.SearchPod, count: int, *, sent: bytes = b"") -> Iterator[list]:
    """Connections of another address that send this and no more."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            one = socket.create_connection(
                ("127.0.0.1", pod.port), timeout=30, source_address=(ANOTHER_POD, 0)
            )
            made.append(stack.enter_context(one))
            one.sendall(sent)
        yield made


def is_ended(connection: socket.socket) -> bool:
    """Waits for its end; a refusal may come before."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1024):
            pass
    return True


def test_flood_of_one_address_takes_places_of_its_own_only(pod):
    kept = pod.http.get(names.PATH_LIVE)
    assert kept.status_code == 200
    with hostile(pod, 3 * server.MAX_PER_ADDRESS) as flood:
        for path in (names.PATH_LIVE, names.PATH_STARTED, names.PATH_METRICS):
            assert pod.http.get(path).status_code == 200
        assert is_ended(flood[0])
        # The newest are heard.
        flood[-1].sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert flood[-1].recv(15).startswith(b"HTTP/1.1 200")


def test_head_that_never_ends_is_not_kept(pod):
    with hostile(pod, 1, sent=b"GET / HTTP/1.1\r\nHost: x\r\n") as (one,):
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                one.sendall(b"x-more: " + b"x" * 8_000 + b"\r\n")
        assert is_ended(one)
    with hostile(pod, 2, sent=b"POST /api/v1/embedding/search HTTP/1.1\r\nHost: x\r\nA") as flood:
        # Ended by the server's clock: what a test waits for, its time-out bounds.
        assert all(is_ended(it) for it in flood)
    assert pod.http.get(names.PATH_LIVE).status_code == 200


def test_body_that_never_comes_ends_with_refusal(pod):
    head = b"POST /api/v1/embedding/search HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with hostile(pod, 1, sent=head) as (one,):
        assert b" 408 " in one.recv(100)
    long = b"POST /api/v1/embedding/search HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"
    with hostile(pod, 1, sent=long + b"x" * 70_000) as (one,):
        assert b" 413 " in one.recv(100)


def test_pages_that_are_not_there_and_methods_that_are_not_allowed(pod):
    assert pod.http.get("/").status_code == 404
    assert pod.http.get(names.PATH_SEARCH).status_code == 405
    assert pod.http.post(names.PATH_INDEX).status_code == 405
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = pod.http.get(names.PATH_INDEX, headers=headers)
        assert refused.status_code == 401
        assert "EmbeddingProof" in refused.headers["www-authenticate"]


def test_pod_ends_at_once_when_it_is_told_to(pod):
    assert pod.stop() == 0


def test_no_token_lets_nobody_in(pod):
    (pod.folder / names.SECRET_API_TOKEN).write_text("", encoding="utf-8")
    for token in ("x", sidecar.TOKEN):
        headers = {"Authorization": f"Bearer {token}"}
        assert pod.http.get(names.PATH_INDEX, headers=headers).status_code == 401
    assert pod.http.post(names.PATH_SEARCH, content=b"{}").status_code == 401


def test_port_that_is_taken_is_said(pod):
    done = subprocess.run(
        [searching.PROGRAM, "serve", "--port", str(pod.port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == command.CANNOT_START
    assert f"port {pod.port} cannot be listened on" in done.stderr


def test_pod_waits_for_its_document(tmp_path):
    pod = searching.SearchPod(tmp_path, document=None, dsn="", sidecar_port=1)
    try:
        assert pod.report()["problems"][0]["reason"] == "DocumentMissing"
        refused = pod.http.post(names.PATH_SEARCH, content=b"{}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "index_not_loaded")
        pod.obey(searching.index())
        sidecar.wait_until(lambda: pod.report()["document"])
    finally:
        pod.stop()
