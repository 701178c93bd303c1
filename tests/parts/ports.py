"""Ports of loopback for programs that a test starts."""

import atexit
import random
import socket
from collections import deque
from contextlib import suppress
from typing import Final

# Neither the kernel's own (32768 and up, Linux), of which it gives one to whoever asks for any or
# connects, nor those of clusters (dev/cluster/networks.py).
_PORTS: Final = range(10_000, 20_000)
HELD: Final = 256
"""So many of the last ones are kept for who asked; older ones are in use by then, or done with."""

_held: Final[deque[socket.socket]] = deque()


@atexit.register
def _close() -> None:
    while _held:
        _held.popleft().close()


def free() -> int:
    """A port nobody listens on, and that no other test of this machine is given meanwhile.

    Until a program listens there it stays bound, by a socket that does not listen: who connects is
    refused, and who binds it is too, but for servers, as they set SO_REUSEADDR (socket(7)).
    """
    while True:
        holder = socket.socket()
        with suppress(OSError):  # taken
            holder.bind(("127.0.0.1", random.choice(_PORTS)))
            # Only now, or two holders could have the same port.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            break
        holder.close()
    _held.append(holder)
    if len(_held) > HELD:
        _held.popleft().close()
    port: int = holder.getsockname()[1]
    return port
