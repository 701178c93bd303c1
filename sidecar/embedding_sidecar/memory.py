"""How much memory this process may have: what kills it, if it takes more, is its container's limit.

In a pod that has a budget of its own the sidecar's container has no limit, and none is seen.
"""

from pathlib import Path
from typing import Final

DEFAULT_BYTES: Final = 384 * 2**20
"""What the chart gives a sidecar; so much is reckoned with where there is no limit."""
_CGROUPS: Final = Path("/sys/fs/cgroup")
_FILES: Final = ("memory.max", "memory/memory.limit_in_bytes")
"""Of version 2 and of version 1. https://docs.kernel.org/admin-guide/cgroup-v2.html#memory,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html"""
_NO_LIMIT_BYTES: Final = 2**60
"""Version 1 says the largest number of whole pages, where version 2 says `max`."""


def limit_bytes(cgroups: Path = _CGROUPS) -> int:
    """The limit of the container that this runs in, else DEFAULT_BYTES."""
    for file in _FILES:
        try:
            written = (cgroups / file).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            # No such version here, or nothing of a cgroup.
            continue
        if written.isdecimal() and 0 < int(written) < _NO_LIMIT_BYTES:
            return int(written)
    return DEFAULT_BYTES
