"""Sockets to listen on: every program of ours that answers in a pod opens its port here."""

import errno
import socket
from typing import Final

_ALL_V4: Final = "0.0.0.0"  # noqa: S104 - it is for others of the cluster
_ALL: Final = "::"
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_BACKLOG: Final = 128


def listen_on_all(port: int, *, backlog: int = _BACKLOG) -> socket.socket:
    """A socket on every address of the pod, whichever family those are of; 0 is a free port.

    Where there is no IPv6 it is of IPv4 alone. `backlog` is how many connections may wait.

    Raises:
        OSError: the port cannot be had.
    """
    try:
        return socket.create_server(
            (_ALL, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog
        )
    except (OSError, ValueError) as error:  # ValueError: the kernel has no dual stack
        if isinstance(error, OSError) and error.errno not in _NO_IPV6:
            raise
        return socket.create_server((_ALL_V4, port), backlog=backlog)
