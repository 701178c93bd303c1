"""What is written down of each cluster, so that any later command can find and remove it."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from dev.cluster import cache as store
from dev.cluster.errors import Failure
from dev.cluster.networks import IPV4, IPV6, Network
from dev.cluster.processes import Identity

NODE_FORMS = {"node": IPV4, "node-ipv6": IPV6}
"""The forms with a node, and the version of IP that each has as its only one."""
FORMS = ("control-plane", *NODE_FORMS)
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


class InvalidNameError(Failure):
    """Not a name for a cluster."""


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
        """Where all of it is kept."""
        return folder_of(self.name)

    @property
    def log(self) -> Path:
        """Where its daemons write, and the API server its audit log."""
        return self.folder / "log"

    @property
    def pki(self) -> Path:
        """Where its keys and certificates are."""
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def network(self) -> Network | None:
        """The addresses of its node; None without one."""
        return None if self.slot is None else Network(self.slot, NODE_FORMS[self.form])

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.folder / "cluster.json.new"
        new.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        new.rename(self.folder / "cluster.json")

    def orphaned(self) -> bool:
        """Whether it is kept for a process that has ended."""
        return self.owner is not None and not self.owner.alive()


def clusters_folder() -> Path:
    """Where the folders of all clusters are."""
    return store.folder() / "clusters"


def checked_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidNameError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{name!r}: lower-case letters, digits and -, at most 32, letter first"
        )
    return name


def folder_of(name: str) -> Path:
    """The folder of the cluster ``name``, made or not.

    Raises:
        InvalidNameError: it cannot have one.
    """
    return clusters_folder() / checked_name(name)


def load(name: str) -> Record | None:
    """The record of a cluster; None when there is none."""
    return _read(folder_of(name) / "cluster.json")


def _read(file: Path) -> Record | None:
    try:
        return parse(file.read_text())
    except FileNotFoundError:
        return None  # perhaps removed this very moment, by another command


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
    found = map(_read, sorted(clusters_folder().glob("*/cluster.json")))
    return [record for record in found if record is not None]
