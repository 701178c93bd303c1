"""Addresses and ports that no two clusters of this machine share."""

import ipaddress
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dev.cluster.errors import Failure

# Below Linux's ephemeral ports (32768), or an outgoing connection could take one of ours.
_PORTS = range(20000, 32000)
SLOTS = range(200)
# A wider route (a VPN's 10.0.0.0/8) leads to ours only by chance, and ours, narrower, win.
_WIDE = 15


class NoSlotError(Failure):
    """All the networks that node clusters may use are taken on this machine."""


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of a node cluster; no two slots overlap."""

    slot: int

    @property
    def link(self) -> str:
        """The host's end of the cable to the node (at most 15 characters: IFNAMSIZ)."""
        return f"eo-node{self.slot}"

    @property
    def host(self) -> str:
        """This machine's end; pods reach its processes there."""
        return f"10.250.{self.slot}.1"

    @property
    def node(self) -> str:
        """The node's end."""
        return f"10.250.{self.slot}.2"

    @property
    def cable(self) -> str:
        """The network between the two."""
        return f"10.250.{self.slot}.0/24"

    @property
    def pods(self) -> str:
        """Pods' addresses."""
        return f"10.245.{self.slot}.0/24"

    @property
    def services(self) -> str:
        """Services' addresses."""
        return services_of(self.slot)

    @property
    def dns(self) -> str:
        """The Service address of the cluster's DNS."""
        return f"10.97.{self.slot}.10"


def services_of(slot: int | None) -> str:
    """The range of Service addresses; without a node nothing routes to it."""
    return f"10.97.{slot or 0}.0/24"


def first_free_slot(taken: Iterable[int], routed: Sequence[str]) -> int:
    """The first slot that no cluster has and whose networks no narrow route of the host touches.

    Raises:
        NoSlotError: there is none.
    """
    used = set(taken)
    every = (ipaddress.ip_network(route, strict=False) for route in routed)
    routes = [route for route in every if route.prefixlen > _WIDE]
    for slot in SLOTS:
        network = Network(slot)
        ours = [ipaddress.ip_network(n) for n in (network.cable, network.pods, network.services)]
        if slot not in used and not any(a.overlaps(b) for a in ours for b in routes):
            return slot
    raise NoSlotError(f"all of {len(SLOTS)} slots are used or overlap the host's routes")


def free_ports(names: Sequence[str], taken: Iterable[int]) -> dict[str, int]:
    """A port for each name, free on 127.0.0.1 now and in no other cluster's record."""
    used = set(taken)
    found: dict[str, int] = {}
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == len(names):
            break
        if port not in used and _is_free(port):
            found[names[len(found)]] = port
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
