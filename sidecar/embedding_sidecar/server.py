"""Two HTTP servers in one process and one loop: the API on loopback, administration on the pod."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

API_HOST: Final = "127.0.0.1"
_ALL_V4: Final = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come to the pod's address
_ALL: Final = "::"
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
GRACE_SECONDS: Final = 10
_BACKLOG: Final = 2048


class PortTaken(OSError):  # noqa: N818 - as the other errors
    """A port that cannot be listened on; the text names it."""


def listen_on_loopback(port: int) -> socket.socket:
    """A socket that only this pod reaches.

    Raises:
        PortTaken: somebody else listens there.
    """
    try:
        return socket.create_server((API_HOST, port), backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(
            f"port {port} on {API_HOST} cannot be listened on: {error.strerror}"
        ) from None


def listen_on_all(port: int) -> socket.socket:
    """A socket on every address of the pod, whichever family those are of.

    Raises:
        PortTaken: somebody else listens there.
    """
    try:
        try:
            return socket.create_server(
                (_ALL, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        except (OSError, ValueError) as error:  # ValueError: the kernel has no dual stack
            if isinstance(error, OSError) and error.errno not in _NO_IPV6:
                raise
            return socket.create_server((_ALL_V4, port), backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(f"port {port} cannot be listened on: {error.strerror}") from None


class Server(uvicorn.Server):
    """A server that leaves signals to the process, which has two of them."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve(servers: list[tuple[Server, socket.socket]], *, until: asyncio.Event) -> None:
    """Serve until the event is set; then take no more, and let what runs come to its end."""
    running = [
        asyncio.create_task(server.serve(sockets=[listening])) for server, listening in servers
    ]
    stop = asyncio.create_task(until.wait())
    await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*running)
