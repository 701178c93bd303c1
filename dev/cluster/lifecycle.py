"""A cluster's life: up, found again, down; also after whoever started it has crashed."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import (
    artifacts,
    control_plane,
    current,
    networks,
    node,
    processes,
    progress,
    records,
)
from dev.cluster import cache as store
from dev.cluster.api import Api
from dev.cluster.errors import Failure
from dev.cluster.records import Record

DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster, as its users see it."""

    kubeconfig: Path
    """Of a cluster administrator."""
    name: str
    form: str
    host_address: str | None
    """Where pods reach processes of this machine that listen there; None without a node."""
    log: Path | None
    """The folder of the daemons' logs, and of ``audit.log``: what ServiceAccounts did."""


class FormError(Failure):
    """The name is taken by a cluster of the other form, or the form is unknown."""


class OwnerError(Failure):
    """The process that a cluster is to be kept for does not run."""


def up(
    *,
    form: str = "control-plane",
    name: str = DEFAULT_NAME,
    owner_pid: int | None = None,
) -> Cluster:
    """Bring the cluster ``name`` up, or find it up already.

    With ``owner_pid`` it is kept only as long as that process lives: see ``down_stale``.
    With ``CLUSTER=current`` in the environment, the current kube-context is the cluster. With
    ``KUBERNETES=1.29`` a new control plane is of that minor.

    Raises:
        Failure: of any kind; the text is for a person. Nothing of the cluster is left.
    """
    if current.chosen():
        return Cluster(current.kubeconfig(), "current", form, current.host_address(), None)
    if form not in records.FORMS:
        raise FormError(f"no form {form!r}; there are: {', '.join(records.FORMS)}")
    if form in records.NODE_FORMS:
        node.require()
    wanted = artifacts.names_of(form, artifacts.chosen_kubernetes())
    made = artifacts.all_ready(wanted.values())
    programs = {role: made[name] for role, name in wanted.items()}
    owner = _identified(owner_pid)
    with _locked(name):
        found = records.load(name)
        if found and _healthy(found):
            if found.form != form:
                raise FormError(f"cluster {name} is up, and its form is {found.form}")
            if found.orphaned():
                found.owner = owner
                found.save()
            return _described(found)
        _remove(name)
        record = _allocate(name, form, owner)
        try:
            _start(record, programs)
        except BaseException:
            _remove(name)
            raise
        return _described(record)


def down(name: str = DEFAULT_NAME) -> None:
    """Remove everything of the cluster ``name``, in whatever state it is.

    With ``CLUSTER=current`` it does nothing.
    """
    if not current.chosen():
        _down(name)


def down_all() -> list[str]:
    """Remove every cluster; gives their names."""
    names = existing()
    for name in names:
        _down(name)
    return names


def down_stale() -> list[str]:
    """Remove the clusters whose owner has ended; gives their names."""
    stale = [record.name for record in records.all_records() if record.orphaned()]
    for name in stale:
        _down(name)
    return stale


def existing() -> list[str]:
    """The names of all clusters, also of those half made or half removed."""
    return sorted(p.name for p in records.clusters_folder().glob("*") if p.is_dir())


def listing() -> Iterator[str]:
    """One line for each cluster: name, form, state, kubeconfig."""
    for name in existing():
        record = records.load(name)
        if record is None:
            yield f"{name}\t-\tbroken\t-"
        else:
            state = "up" if _healthy(record) else "broken"
            state = "stale" if record.orphaned() else state
            yield f"{name}\t{record.form}\t{state}\t{record.kubeconfig}"


def _locked(name: str) -> AbstractContextManager[None]:
    return store.exclusive(store.folder() / "locks" / f"cluster-{records.checked_name(name)}.lock")


def _down(name: str) -> None:
    with _locked(name):
        _remove(name)


def _identified(pid: int | None) -> processes.Identity | None:
    if pid is None:
        return None
    identity = processes.identify(pid)
    if identity is None:
        raise OwnerError(f"the owner, process {pid}, does not run")
    return identity


def _described(record: Record) -> Cluster:
    host = record.network.host if record.network else None
    return Cluster(record.kubeconfig, record.name, record.form, host, record.log)


def _healthy(record: Record) -> bool:
    alive = all(identity.alive() for identity in record.processes.values())
    return alive and record.kubeconfig.exists() and Api(record.kubeconfig).ready()


def _allocate(name: str, form: str, owner: processes.Identity | None) -> Record:
    # One at a time over all names, or two clusters would choose the same.
    with store.exclusive(store.folder() / "locks" / "clusters.lock"):
        others = records.all_records()
        slot = None
        if version := records.NODE_FORMS.get(form):
            slots = [record.slot for record in others if record.slot is not None]
            slot = networks.first_free_slot(slots, node.routes(version), version=version)
        taken = [port for record in others for port in record.ports.values()]
        ports = networks.free_ports(control_plane.PORTS, taken)
        record = Record(name, form, slot, ports, owner)
        record.save()
        return record


def _start(record: Record, programs: dict[str, Path]) -> None:
    began = time.monotonic()
    steps = 3 if record.network else 2
    authority = control_plane.credentials(record)
    if record.network:
        node.prepare(record, authority)
    with progress.step("starting the control plane", number=1, of=steps):
        control_plane.start(record, programs)
    if record.network:
        with progress.step("starting the node", number=2, of=steps):
            node.start(record, programs)
    with progress.step("waiting for ServiceAccounts", number=steps, of=steps):
        control_plane.wait_for_accounts(record)
    took = time.monotonic() - began
    print(f"cluster {record.name} is up after {took:.1f} s", file=sys.stderr, flush=True)


def _remove(name: str) -> None:
    record = records.load(name)
    if record:
        # The node goes first: nothing may start a pod while its parts are taken away.
        if record.network:
            node.remove(record)
        processes.end(list(record.processes.values()))
    folder = records.folder_of(name)
    if folder.exists():
        _delete(folder)


def _delete(folder: Path) -> None:
    # Out of the way first, so that a half deleted folder is never taken for a cluster.
    trash = store.folder() / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    # What a removal that was killed left there; all of it is dead.
    for left in trash.iterdir():
        shutil.rmtree(left, ignore_errors=True)
    dead = trash / f"{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
    folder.rename(dead)
    while dead.exists():
        # Another removal, of another cluster, empties the same trash.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(dead)
