"""A throwaway, real Kubernetes for tests and demo.

The rest of the project knows of a cluster only its kubeconfig, and the address at which
pods reach this machine. See README.md beside this file.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster import artifacts, images
from cluster.errors import Failure
from cluster.lifecycle import Cluster, down, down_stale, load_image, up

__all__ = ["Cluster", "Failure", "artifact", "down", "down_stale", "image", "load_image", "up"]


def artifact(name: str) -> Path:
    """The path of a program or folder (`kubectl`, `promtool`, ...), built where absent."""
    return artifacts.ready(name)


def image(
    name: str,
    *,
    dockerfile: Path,
    context: Path,
    build_arguments: Mapping[str, str] | None = None,
) -> Path:
    """The archive of an image built from a Dockerfile, for ``load_image``."""
    return images.build(
        name, dockerfile=dockerfile, context=context, build_arguments=build_arguments
    )
