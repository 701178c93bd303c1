"""Ports: those that URLs leave out, and the sockets on which programs of ours listen in a pod."""

import errno
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DEFAULT_PORTS: Final[Mapping[str, int]] = MappingProxyType({"http": 80, "https": 443})
"""The default ports by scheme (RFC 9110, sections 4.2.1 and 4.2.2)."""

_ALL_V4: Final = "0.0.0.0"  # noqa: S104 - it is for others of the cluster
_ALL: Final = "::"
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def listen_on_all(port: int, *, backlog: int = 128) -> socket.socket:
    """A socket on every address of the pod, of either family; port 0 is a free one.

    Without IPv6 it is of IPv4 alone. `backlog` is the number of connections that may wait.

    Raises:
        OSError: the port is not available.
    """
    try:
        return without_delay(
            socket.create_server(
                (_ALL, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog
            )
        )
    except (OSError, ValueError) as error:  # ValueError: the kernel has no dual stack
        if isinstance(error, OSError) and error.errno not in _NO_IPV6:
            raise
        return without_delay(socket.create_server((_ALL_V4, port), backlog=backlog))


def without_delay(listener: socket.socket) -> socket.socket:
    """The listener, whose connections send small pieces at once: they inherit TCP_NODELAY.

    asyncio sets it only where a socket's protocol is given, which `create_server` leaves out.
    Without it, a body that follows its head waits about 40 ms for a delayed acknowledgement
    (RFC 9293, section 3.7.4).
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
