"""Sockets to listen on."""

import errno
import socket
from typing import Final

_ALL_V4: Final = "0.0.0.0"  # noqa: S104 - kubelet, Prometheus and the API server come to the pod
_ALL: Final = "::"
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_BACKLOG: Final = 128


def listen_on_all(port: int) -> socket.socket:
    """A socket on every address of the pod, whichever family those are of; 0 is a free port.

    Where there is no IPv6 it is of IPv4 alone.

    Raises:
        OSError: the port cannot be had.
    """
    try:
        return socket.create_server(
            (_ALL, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
    except (OSError, ValueError) as error:  # ValueError: the kernel has no dual stack
        if isinstance(error, OSError) and error.errno not in _NO_IPV6:
            raise
        return socket.create_server((_ALL_V4, port), backlog=_BACKLOG)
