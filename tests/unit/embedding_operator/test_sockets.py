"""The operator's sockets: on both address families, or on the only one."""

import errno
import http.client
import os
import socket
import ssl
import subprocess
import sys
import textwrap
from functools import partial
from http import HTTPStatus

import pytest

from dev.cluster.certificates import Authority
from embedding_contract import sockets
from embedding_http import server
from embedding_operator.serving import listener
from embedding_operator.serving.listener import Reply
from tests.parts import ports


def reached(port):
    """The loopback addresses at which somebody listens."""
    found = []
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            continue
        found.append(host)
    return found


def port_of(listening):
    return listening.getsockname()[1]


def test_operator_listens_on_both_families():
    with sockets.listen_on_all(0) as listening:
        assert reached(port_of(listening)) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "listen", [sockets.listen_on_all, partial(server.listen, host="127.0.0.1")]
)
def test_connection_sends_small_pieces_at_once(listen):
    with listen(0) as listening, socket.create_connection(("127.0.0.1", port_of(listening))):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class NoIPv6(socket.socket):
    """On a kernel that was built or started without it."""

    def __init__(self, family=-1, *args, **named):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *args, **named)


class NoAddress(socket.socket):
    """Where it is there, and no address of it may be had."""

    def bind(self, address):
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        super().bind(address)


@pytest.mark.parametrize("without", [NoIPv6, NoAddress])
def test_operator_listens_on_ipv4_where_ipv6_is_missing(monkeypatch, without):
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", without)
        listening = sockets.listen_on_all(0)
    with listening:
        assert listening.family == socket.AF_INET
        assert reached(port_of(listening)) == ["127.0.0.1"]


def test_port_that_is_taken_is_not_listened_on_in_one_family_only():
    with sockets.listen_on_all(0) as listening, pytest.raises(OSError, match="in use"):
        sockets.listen_on_all(port_of(listening))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_probes_are_answered_on_either_family(host):
    port = ports.free()
    pages = {"/healthz": lambda _: Reply(HTTPStatus.OK, b"ok\n")}
    listener.Listener(port=port, pages=pages, name="listener").start()
    client = http.client.HTTPConnection(host, port, timeout=30)
    client.request("GET", "/healthz")
    assert client.getresponse().read() == b"ok\n"
    client.close()


REVIEWS = """
    import asyncio, errno, os, socket, sys
    from pathlib import Path
    from embedding_operator.injection import admission_server

    if sys.argv[3] == "refused":
        class Refusing(socket.socket):
            def __init__(self, family=-1, *args, **named):
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
                super().__init__(family, *args, **named)
        socket.socket = Refusing

    async def answer(path, body):
        return 200, b"{}"

    folder = Path(sys.argv[1])
    files = admission_server.Files(certificate=folder / "tls.crt", key=folder / "tls.key")
    server = admission_server.Server(
        port=int(sys.argv[2]),
        files=files,
        answer=answer,
        about=lambda _: "",
        listens=lambda: print("on", flush=True),
    )
    asyncio.run(server.run())
"""


@pytest.mark.parametrize(
    ("families", "hosts"), [("both", ["127.0.0.1", "::1"]), ("refused", ["127.0.0.1"])]
)
def test_reviews_are_answered_on_each_family_that_there_is(tmp_path, families, hosts):
    authority = Authority()
    authority.issue("webhook", hosts=["localhost"]).write(tmp_path, "tls")
    trusting = ssl.create_default_context(cadata=authority.pair.certificate.decode())
    port = ports.free()
    command = [sys.executable, "-c", textwrap.dedent(REVIEWS), str(tmp_path), str(port), families]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            assert reached(port) == hosts
            for host in hosts:
                with (
                    socket.create_connection((host, port), timeout=30) as client,
                    trusting.wrap_socket(client, server_hostname="localhost") as encrypted,
                ):
                    encrypted.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
                    assert encrypted.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            process.kill()
