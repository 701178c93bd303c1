"""The cgroup under which a node's pods live; version 1, hybrid and version 2."""

import time
from pathlib import Path

from dev.cluster.errors import Failure

ROOT = Path("/sys/fs/cgroup")
EMPTY_SECONDS = 20


class OccupiedError(Failure):
    """A cgroup still holds processes or groups."""


def path_of(name: str) -> str:
    """The cgroup of the cluster ``name``, as kubelet is told it."""
    return f"/embedding-operator-{name}"


def hierarchies(root: Path) -> list[Path]:
    """The roots of all mounted hierarchies: one with version 2, one a controller with 1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(folder for folder in root.iterdir() if (folder / "cgroup.procs").exists())


def create(name: str, *, root: Path = ROOT) -> None:
    """Make the cluster's cgroup in every hierarchy, with all controllers in it."""
    for hierarchy in hierarchies(root):
        group = hierarchy / path_of(name).removeprefix("/")
        group.mkdir(exist_ok=True)
        # Version 1 leaves these empty in a new group, and then nothing may enter it.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / file).exists() and not (hierarchy / "cgroup.controllers").exists():
                (group / file).write_text((hierarchy / file).read_text())
        if root == hierarchy:
            for parent in (hierarchy, group):
                _pass_controllers_on(parent)


def _pass_controllers_on(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    control = group / "cgroup.subtree_control"
    for controller in set(available) - set(control.read_text().split()):
        control.write_text(f"+{controller}")


def members(name: str, *, root: Path = ROOT) -> set[int]:
    """The processes in the cluster's cgroup and all below it."""
    return {
        int(pid)
        for hierarchy in hierarchies(root)
        for file in (hierarchy / path_of(name).removeprefix("/")).rglob("cgroup.procs")
        for pid in file.read_text().split()
    }


def remove(name: str, *, root: Path = ROOT) -> None:
    """Remove the cluster's cgroup, also those that runc made unasked.

    Raises:
        OccupiedError: something still lives in it.
    """
    deadline = time.monotonic() + EMPTY_SECONDS
    for hierarchy in hierarchies(root):
        group = hierarchy / path_of(name).removeprefix("/")
        while group.exists() and not _removed(group):
            if time.monotonic() > deadline:
                raise OccupiedError(f"{group} is still in use")
            time.sleep(0.1)


def _removed(group: Path) -> bool:
    # Deepest first. The kernel refuses while a process that was killed is on its way out.
    folders = sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True)
    try:
        for folder in [*folders, group]:
            folder.rmdir()
    except OSError:
        return False
    return True
