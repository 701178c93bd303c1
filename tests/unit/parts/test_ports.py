"""A port that a test was given is its own until its program listens there."""

import random
import socket

import pytest

from tests.parts import ports


def test_ports_given_are_distinct(monkeypatch):
    monkeypatch.setattr(ports, "_PORTS", range(10_000, 10_000 + 2 * ports.HELD))
    given = [ports.free() for _ in range(ports.HELD)]
    assert len(set(given)) == len(given)


def test_one_that_another_process_holds_or_listens_on_is_passed_over(monkeypatch):
    held, taken = ports.free(), ports.free()
    with socket.create_server(("127.0.0.1", taken)):
        drawn, draw = iter([held, taken, held]), random.choice
        monkeypatch.setattr(random, "choice", lambda known: next(drawn, None) or draw(known))
        assert ports.free() not in {held, taken}


def test_reserved_port_refuses_until_program_listens():
    port = ports.free()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port)).close()


def test_program_may_listen_there_on_all_addresses():
    port = ports.free()
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True):
        socket.create_connection(("127.0.0.1", port)).close()
