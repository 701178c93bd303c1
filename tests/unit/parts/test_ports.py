"""A port that a test was given is its own until its program listens there."""

import socket

import pytest

from tests.parts import ports


def test_no_two_are_the_same():
    given = [ports.free() for _ in range(ports.HELD)]
    assert len(set(given)) == len(given)


def test_the_kernel_gives_it_to_nobody_else():
    port = ports.free()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def test_nobody_is_there_until_a_program_listens():
    port = ports.free()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_program_may_listen_there_on_all_addresses():
    port = ports.free()
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True):
        socket.create_connection(("127.0.0.1", port)).close()
