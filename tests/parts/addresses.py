"""Pods' addresses on this machine, where there is no node: one each, leading to a local port.

They are put on the loopback device, which root may do, and taken off it again.
"""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

from embedding_contract import names

_PIECE = 65_536


@contextlib.contextmanager
def leading(address: str, *, to_port: int) -> Iterator[None]:
    """Port 8485 of an address leads to a port of 127.0.0.1."""
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        with socket.create_server((address, names.ADMIN_PORT)) as listening:
            threading.Thread(target=_accept, args=(listening, to_port), daemon=True).start()
            yield
            listening.shutdown(socket.SHUT_RDWR)
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


def _accept(listening: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError):  # it was closed
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of the two has gone
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
