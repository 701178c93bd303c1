"""No two clusters share an address or a port."""

import ipaddress
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.cluster import networks


def _all_of(network):
    return [ipaddress.ip_network(n) for n in (network.cable, network.pods, network.services)]


def test_no_two_slots_overlap():
    every = [n for slot in networks.SLOTS for n in _all_of(networks.Network(slot))]
    assert len(set(every)) == len(every) == 3 * len(networks.SLOTS)
    assert {n.prefixlen for n in every} == {24}


def test_addresses_lie_in_their_networks():
    network = networks.Network(7)
    for address in (network.host, network.node):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(network.cable)
    assert ipaddress.ip_address(network.dns) in ipaddress.ip_network(network.services)


def test_link_has_name_that_linux_takes():
    assert all(len(networks.Network(slot).link) <= 15 for slot in networks.SLOTS)


@given(st.sets(st.sampled_from(networks.SLOTS), max_size=len(networks.SLOTS) - 1))
def test_first_free_slot_is_taken(taken):
    found = networks.first_free_slot(taken, [])
    assert found not in taken
    assert all(slot in taken for slot in range(found))


def test_slot_whose_network_host_routes_is_passed_over():
    assert networks.first_free_slot([], ["10.250.0.0/23", "10.97.2.77/32"]) == 3


def test_wide_route_is_overruled():
    assert networks.first_free_slot([], ["10.0.0.0/8"]) == 0


def test_host_that_uses_all_of_it_has_no_slot():
    with pytest.raises(networks.NoSlotError, match="200 slots"):
        networks.first_free_slot([], ["10.250.0.0/16"])


def test_ports_are_free_distinct_and_nobody_elses():
    names = [f"port-{number}" for number in range(50)]
    first = networks.free_ports(names, [])
    second = networks.free_ports(names, first.values())
    assert set(first) == set(second) == set(names)
    assert len({*first.values(), *second.values()}) == 100
    for port in itertools.islice(first.values(), 5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_ports_are_none_that_linux_gives_to_outgoing_connections():
    assert all(port < 32768 for port in networks.free_ports(["a", "b", "c"], []).values())
