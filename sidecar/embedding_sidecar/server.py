"""Two HTTP servers in one process and one loop: the API on loopback, administration on the pod."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

API_HOST: Final = "127.0.0.1"
ADMIN_HOST: Final = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come to the pod's address
GRACE_SECONDS: Final = 10
_BACKLOG: Final = 2048


class PortTaken(OSError):  # noqa: N818 - as the other errors
    """A port that cannot be listened on; the text names it."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortTaken: somebody else listens there, or the address is not ours.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise PortTaken(f"port {port} on {host} cannot be listened on: {error.strerror}") from None
    return listening


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
