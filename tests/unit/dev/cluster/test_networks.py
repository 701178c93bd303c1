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


@pytest.mark.parametrize(("version", "length"), [(4, 24), (6, 112)])
def test_no_two_slots_overlap(version, length):
    every = [n for slot in networks.SLOTS for n in _all_of(networks.Network(slot, version))]
    assert len(set(every)) == len(every) == 3 * len(networks.SLOTS)
    assert {(n.version, n.prefixlen) for n in every} == {(version, length)}


@pytest.mark.parametrize("version", [4, 6])
def test_addresses_lie_in_their_networks(version):
    network = networks.Network(7, version)
    for address in (network.host, network.node):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(network.cable)
    for address in (network.api_service, network.dns):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(network.services)


def test_addresses_of_ipv4_and_ipv6_are_told():
    one, other = networks.Network(7), networks.Network(7, 6)
    assert (one.host, one.dns, one.everywhere) == ("10.250.7.1", "10.97.7.10", "0.0.0.0/0")
    assert (other.host, other.dns, other.everywhere) == (
        "fd00:10:250:7::1",
        "fd00:10:97:7::a",
        "::/0",
    )


def test_address_stands_in_url_as_its_version_is_written():
    written = [networks.in_url(it) for it in ("10.250.7.1", "fd00:10:250:7::1", "localhost")]
    assert written == ["10.250.7.1", "[fd00:10:250:7::1]", "localhost"]


def test_link_has_name_that_linux_takes():
    assert all(len(networks.Network(slot).link) <= 15 for slot in networks.SLOTS)


@given(st.sets(st.sampled_from(networks.SLOTS), max_size=len(networks.SLOTS) - 1))
def test_first_free_slot_is_taken(taken):
    found = networks.first_free_slot(taken, [])
    assert found not in taken
    assert all(slot in taken for slot in range(found))


def test_slot_whose_network_host_routes_is_passed_over():
    assert networks.first_free_slot([], ["10.250.0.0/23", "10.97.2.77/32"]) == 3


def test_slot_whose_ipv6_network_host_routes_is_passed_over():
    routed = ["fd00:10:250::/64", "fd00:10:97:1::4/128"]
    assert networks.first_free_slot([], routed, version=6) == 2


@pytest.mark.parametrize(("version", "wide"), [(4, "10.0.0.0/8"), (6, "fd00::/8")])
def test_wide_route_is_overruled(version, wide):
    assert networks.first_free_slot([], [wide], version=version) == 0


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
