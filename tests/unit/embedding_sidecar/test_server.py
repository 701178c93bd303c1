"""The addresses of the two servers."""

import socket

import pytest

from embedding_http import server


def port_of(listening):
    return listening.getsockname()[1]


def test_administration_answers_on_either_family():
    with server.listen(0) as listening:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port_of(listening)), timeout=5).close()


def test_administration_answers_where_there_is_no_ipv6(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with server.listen(0) as listening:
        assert listening.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", port_of(listening)), timeout=5).close()


def test_api_is_on_loopback_only():
    with server.listen(0, host=server.LOOPBACK) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_taken_port_is_named():
    with server.listen(0) as listening:
        port = port_of(listening)
        with pytest.raises(server.PortTaken, match=f"port {port} .*in use"):
            server.listen(port, host=server.LOOPBACK)
        with pytest.raises(server.PortTaken, match=f"port {port} .*in use"):
            server.listen(port)
