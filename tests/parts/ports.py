"""Ports of loopback for programs that a test starts."""

import os
import socket
from collections import deque
from typing import Final

HELD: Final = 256
"""So many of the last ones are kept for who asked; older ones are in use by then, or done with."""

_held: Final[deque[int]] = deque()
"""File descriptors."""


def free() -> int:
    """A port nobody listens on, and that nobody else is given who asks the kernel for any port.

    Between the answer and the program that listens there, other tests ask too. So the port stays
    bound, by a socket that does not listen: with SO_REUSEADDR, as servers set it, Linux lets
    another socket bind the same port and listen (socket(7)). Who connects is refused until then.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if len(_held) == HELD:
        os.close(_held.popleft())
    _held.append(holder.detach())
    return port
