"""The memory limit of this process: its container's, which the kernel enforces.

In a pod with a budget of its own the sidecar's container has no limit.
"""

from pathlib import Path
from typing import Final

DEFAULT_BYTES: Final = 384 * 2**20
"""The chart's limit for a sidecar; assumed where there is none."""
_CGROUPS: Final = Path("/sys/fs/cgroup")
_FILES: Final = ("memory.max", "memory/memory.limit_in_bytes")
"""The files of version 2 and version 1. https://docs.kernel.org/admin-guide/cgroup-v2.html#memory,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html"""
_NO_LIMIT_BYTES: Final = 2**60
"""Version 1 writes the largest number of whole pages for no limit; version 2 writes `max`."""


def limit_bytes(cgroups: Path = _CGROUPS) -> int:
    """The limit of the container that this runs in, else DEFAULT_BYTES."""
    for file in _FILES:
        try:
            written = (cgroups / file).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            # This version is not here.
            continue
        if written.isdecimal() and 0 < int(written) < _NO_LIMIT_BYTES:
            return int(written)
    return DEFAULT_BYTES
