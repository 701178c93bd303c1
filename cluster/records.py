"""What is written down of each cluster, so that any later command can find and remove it."""

import dataclasses
import ipaddress
import json
import random
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster import cache as store
from cluster.errors import Failure
from cluster.processes import Identity

FORMS = ("control-plane", "node")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
# Below Linux's ephemeral ports (32768), or an outgoing connection could take one of ours.
_PORTS = range(20000, 32000)
SLOTS = range(200)


class InvalidNameError(Failure):
    """Not a name for a cluster."""


class NoSlotError(Failure):
    """All the networks that node clusters may use are taken on this machine."""


@dataclass(slots=True)
class Record:
    """One cluster: what it is, where it listens, what runs for it."""

    name: str
    form: str
    slot: int | None
    """Which networks a node cluster uses; None without a node."""
    ports: dict[str, int]
    owner: Identity | None
    """The process for which the cluster is kept; None: until it is taken down."""
    processes: dict[str, Identity] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return folder_of(self.name)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def network(self) -> "Network | None":
        return None if self.slot is None else Network(self.slot)

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.folder / "cluster.json.new"
        new.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        new.rename(self.folder / "cluster.json")

    def orphaned(self) -> bool:
        """Whether it is kept for a process that has ended."""
        return self.owner is not None and not self.owner.alive()


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
        return f"10.250.{self.slot}.1"

    @property
    def node(self) -> str:
        return f"10.250.{self.slot}.2"

    @property
    def cable(self) -> str:
        return f"10.250.{self.slot}.0/24"

    @property
    def pods(self) -> str:
        return f"10.245.{self.slot}.0/24"

    @property
    def services(self) -> str:
        return services_of(self.slot)

    @property
    def dns(self) -> str:
        return f"10.97.{self.slot}.10"


def services_of(slot: int | None) -> str:
    """The range of Service addresses; without a node nothing routes to it."""
    return f"10.97.{slot or 0}.0/24"


def first_free_slot(taken: Iterable[int], routed: Sequence[str]) -> int:
    """The first slot that no cluster has and whose networks no route of the host touches.

    Raises:
        NoSlotError: there is none.
    """
    used = set(taken)
    routes = [ipaddress.ip_network(route, strict=False) for route in routed]
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


def clusters_folder() -> Path:
    return store.folder() / "clusters"


def checked_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidNameError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidNameError(f"{name!r}: lower-case letters, digits and -, at most 32, letter first")
    return name


def folder_of(name: str) -> Path:
    return clusters_folder() / checked_name(name)


def load(name: str) -> Record | None:
    """The record of a cluster; None when there is none."""
    file = folder_of(name) / "cluster.json"
    return parse(file.read_text()) if file.exists() else None


def parse(text: str) -> Record:
    """A record from what ``save`` wrote."""
    raw = json.loads(text)
    owner = raw["owner"]
    processes = {name: Identity(**identity) for name, identity in raw["processes"].items()}
    return Record(
        name=raw["name"],
        form=raw["form"],
        slot=raw["slot"],
        ports=raw["ports"],
        owner=None if owner is None else Identity(**owner),
        processes=processes,
    )


def all_records() -> list[Record]:
    """Every cluster there is a record of, by name."""
    files = sorted(clusters_folder().glob("*/cluster.json"))
    return [parse(file.read_text()) for file in files]
