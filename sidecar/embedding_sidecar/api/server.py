"""Two HTTP servers in one process and one loop: the API on loopback, administration on the pod."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from embedding_http import server
from embedding_http.bounds import Bounds, unavailable

DRAIN_SECONDS: Final = 7.0
"""Time for requests under way to end after SIGTERM. With the next steps, 3 s at worst, it is within
the 10 s that `docker stop` waits, and well within the 30 s of a pod."""
_TICK_SECONDS: Final = 0.05
ADMIN: Final = Bounds(head_bytes=16_384, head_seconds=5.0, pipelined=0, methods=("GET", "HEAD"))
"""Bounds of administration, which any client can open that reaches the pod's address: they allow no
more than a scrape, a probe or a page needs. Prometheus and kubelet send heads of 300 bytes; a proxy
in front of them adds a few times that."""

OWN_DESCRIPTORS: Final = 64
"""For files, Redis, name look-ups and the event loop."""
MAX_ADMIN: Final = 64
"""Kubelet, a few Prometheus servers, the operator and people need a tenth of these at once."""
MAX_ADMIN_PER_ADDRESS: Final = 16
MAX_API: Final = 2048
"""The length of the kernel's accept queue; each idle connection holds about 15 KB."""
_ADMIN_SHARE: Final = 4
"""Where descriptors are few, a quarter of them at most is for administration."""

_log = logging.getLogger(__name__)


class Connections(NamedTuple):
    """The most connections that each listener may have."""

    api: int
    admin: int


def connections(descriptors: int) -> Connections:
    """The bounds that so many files open at once allow.

    Half of what administration leaves is for the application's connections: each of its requests
    may need one towards a provider.
    """
    free = max(descriptors - OWN_DESCRIPTORS, 2 * _ADMIN_SHARE)
    admin = min(MAX_ADMIN, free // _ADMIN_SHARE)
    return Connections(api=min(MAX_API, (free - admin) // 2), admin=admin)


async def serve(
    *,
    api: tuple[server.Server, socket.socket],
    admin: tuple[server.Server, socket.socket],
    until: asyncio.Event,
    at_once: asyncio.Event,
    busy: Callable[[], bool],
) -> None:
    """Serve until the event is set; then let requests under way end, unless `at_once` is set.

    No new connection is accepted then. Open ones are answered until their clients close them: an
    application that is shutting down itself may still send requests. `busy` is true while there is
    work whose caller is gone. Administration is served till the end.
    """
    for serving, listening in (api, admin):
        await serving.start(listening)
    await until.wait()
    await api[0].stop_accepting()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            # No event says when the remaining work ends.
            while not at_once.is_set() and (api[0].has_connections or busy()):  # noqa: ASYNC110 - as just said
                await asyncio.sleep(_TICK_SECONDS)
    except TimeoutError:
        _log.warning("the %.0f s to come to an end are over", DRAIN_SECONDS)
    await api[0].cut(unavailable("This sidecar is being shut down.", code="shutting_down"))
    await asyncio.gather(api[0].close(), admin[0].close())
