"""Bounds of each listener's connections, by the number of files the process may have open."""

from typing import Final, NamedTuple

OWN_DESCRIPTORS: Final = 64
"""For files, Redis, name look-ups and the event loop."""
MAX_ADMIN: Final = 64
"""Kubelet, a few Prometheus servers, the operator and people need a tenth of these at once."""
MAX_ADMIN_PER_ADDRESS: Final = 16
MAX_API: Final = 2048
"""The length of the kernel's accept queue; each idle connection holds about 15 KB."""
_ADMIN_SHARE: Final = 4
"""Where descriptors are few, a quarter of them at most is for administration."""


class Most(NamedTuple):
    """The most connections that each listener may have."""

    api: int
    admin: int


def most(descriptors: int) -> Most:
    """The bounds that so many descriptors allow.

    Half of what administration leaves is for the application's connections: each of its requests
    may need one towards a provider.
    """
    free = max(descriptors - OWN_DESCRIPTORS, 2 * _ADMIN_SHARE)
    admin = min(MAX_ADMIN, free // _ADMIN_SHARE)
    return Most(api=min(MAX_API, (free - admin) // 2), admin=admin)
