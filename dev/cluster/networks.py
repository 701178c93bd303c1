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
IPV4, IPV6 = 4, 6
# By version. A wider route (a VPN's 10.0.0.0/8) leads to ours only by chance, and ours,
# narrower, win.
_WIDE = {IPV4: 15, IPV6: 47}
_CABLE, _PODS, _SERVICES = 250, 245, 97


class NoSlotError(Failure):
    """All the networks that node clusters may use are taken on this machine."""


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of a node cluster, all of one version of IP; no two slots overlap."""

    slot: int
    version: int = IPV4

    @property
    def link(self) -> str:
        """The host's end of the cable to the node (at most 15 characters: IFNAMSIZ)."""
        return f"eo-node{self.slot}"

    @property
    def host(self) -> str:
        """This machine's end; pods reach its processes there."""
        return self._address(_CABLE, 1)

    @property
    def node(self) -> str:
        """The node's end."""
        return self._address(_CABLE, 2)

    @property
    def cable(self) -> str:
        """The network between the two."""
        return self._range(_CABLE)

    @property
    def pods(self) -> str:
        """Pods' addresses."""
        return self._range(_PODS)

    @property
    def services(self) -> str:
        """Services' addresses."""
        return self._range(_SERVICES)

    @property
    def api_service(self) -> str:
        """The Service address of the API server: always the first."""
        return self._address(_SERVICES, 1)

    @property
    def dns(self) -> str:
        """The Service address of the cluster's DNS."""
        return self._address(_SERVICES, 10)

    @property
    def everywhere(self) -> str:
        """The network of all addresses."""
        return "0.0.0.0/0" if self.version == IPV4 else "::/0"

    def _range(self, kind: int) -> str:
        if self.version == IPV4:
            return f"10.{kind}.{self.slot}.0/24"
        # The API server takes no range of Services with more than 20 bits for them.
        return str(ipaddress.ip_network(f"fd00:10:{kind}:{self.slot}::/112"))

    def _address(self, kind: int, number: int) -> str:
        return str(ipaddress.ip_network(self._range(kind))[number])


def in_url(address: str) -> str:
    """An IP address or a name as a URL has it (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def first_free_slot(taken: Iterable[int], routed: Sequence[str], *, version: int = IPV4) -> int:
    """The first slot that no cluster has and whose networks no narrow route of the host touches.

    ``routed`` are networks of this ``version`` of IP.

    Raises:
        NoSlotError: there is none.
    """
    used = set(taken)
    every = (ipaddress.ip_network(route, strict=False) for route in routed)
    routes = [route for route in every if route.prefixlen > _WIDE[version]]
    for slot in SLOTS:
        network = Network(slot, version)
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
