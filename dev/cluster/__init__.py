"""A throwaway, real Kubernetes for tests and demo.

The rest of the project knows of a cluster only its kubeconfig, and the address at which
pods reach this machine. ``cluster.images`` builds images and loads them into a node. See
README.md beside this file.
"""

from pathlib import Path

from dev.cluster import artifacts
from dev.cluster.errors import Failure
from dev.cluster.lifecycle import Cluster, down, down_stale, up

__all__ = ["Cluster", "Failure", "artifact", "down", "down_stale", "up"]


def artifact(name: str) -> Path:
    """The path of a program or folder (`kubectl`, `promtool`, ...), built where absent."""
    return artifacts.ready(name)
