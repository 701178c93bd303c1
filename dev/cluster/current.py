"""``CLUSTER=current``: the cluster of the current kube-context in place of an own one."""

import os
from pathlib import Path

from dev.cluster.errors import Failure


class NoContextError(Failure):
    """``CLUSTER=current`` and no kubeconfig to take the context from."""


def chosen() -> bool:
    """Whether the environment asks for the current cluster.

    Raises:
        NoContextError: ``CLUSTER`` is set to something else.
    """
    value = os.environ.get("CLUSTER", "")
    if value not in {"", "current"}:
        raise NoContextError(f"CLUSTER={value}: it may only be `current`, or not set")
    return value == "current"


def kubeconfig() -> Path:
    """The kubeconfig in use: ``$KUBECONFIG``, or ``~/.kube/config``.

    Raises:
        NoContextError: there is none, or ``$KUBECONFIG`` lists several.
    """
    named = os.environ.get("KUBECONFIG", "")
    if os.pathsep in named:
        raise NoContextError(f"KUBECONFIG={named}: name one file for CLUSTER=current")
    path = Path(named) if named else Path.home() / ".kube" / "config"
    if not path.is_file():
        raise NoContextError(f"CLUSTER=current, but there is no kubeconfig at {path}")
    return path.absolute()


def host_address() -> str | None:
    """Where pods of that cluster reach this machine: ``$CLUSTER_HOST_ADDRESS``."""
    return os.environ.get("CLUSTER_HOST_ADDRESS") or None


def how_to_load(archive: Path) -> str:
    """What to type to bring an image archive into a cluster of one's own."""
    return (
        f"CLUSTER=current: load {archive} into it yourself, e.g.\n"
        f"  kind load image-archive {archive}\n"
        f"  k3d image import {archive}\n"
        f"  minikube image load {archive}"
    )
