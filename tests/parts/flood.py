"""Whoever sends bytes without end, and how much of a process's memory that takes."""

import contextlib
import socket
from pathlib import Path

MOST_BYTES = 40 * 2**20
"""Sent at most; a server that holds them passes any bound of these tests."""
GROWTH_BYTES = 8 * 2**20
"""Of the largest memory that a process had; what an allocator keeps for itself is within it."""


def most_bytes(pid: int) -> int:
    """The largest memory a process has had (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


def send(port: int, start: bytes, piece: bytes, *, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Send the start, then the piece again and again until the server ends it.

    How many bytes it took, MOST_BYTES at most, and what it has answered.
    """
    many = piece * (65_536 // len(piece) + 1)
    sent, answer = 0, b""
    with socket.create_connection((host, port), timeout=10) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(start)
            while sent < MOST_BYTES:
                client.sendall(many)
                sent += len(many)
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.settimeout(1)
            while more := client.recv(65_536):
                answer += more
    return sent, answer
