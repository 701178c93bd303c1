"""Senders of endless bytes, and the memory of a process that they take."""

import contextlib
import itertools
import socket
import threading
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


class Endless:
    """A provider that answers with a start and then the same piece without end.

    Each of `forms` in turn, one for each connection.
    """

    def __init__(self, *forms: tuple[bytes, bytes], host: str = "127.0.0.1") -> None:
        self._forms = itertools.cycle(forms)
        self._host = host
        self._listening = socket.create_server((host, 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.asked = 0
        self.sent_bytes = 0
        """To the one that took most."""

    def __enter__(self) -> str:
        self._accepting.start()
        return f"http://{self._host}:{self._listening.getsockname()[1]}/v1"

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                form = next(self._forms)
                threading.Thread(target=self._answer, args=(client, *form), daemon=True).start()

    def _answer(self, client: socket.socket, start: bytes, piece: bytes) -> None:
        many, sent = piece * (65_536 // len(piece) + 1), 0
        with client, contextlib.suppress(OSError):
            client.settimeout(20)
            client.recv(65_536)
            self.asked += 1
            client.sendall(start)
            while sent < 4 * MOST_BYTES:
                client.sendall(many)
                sent += len(many)
                self.sent_bytes = max(self.sent_bytes, sent)


_OK = b"HTTP/1.1 200 OK\r\n"
_LENGTH = b"content-length: 999999999\r\n\r\n"
_ITEM = b'{"data":[{"index":0,"embedding":'
ANSWERS = {
    "zeros": (_OK + _LENGTH + _ITEM + b"[", b"0,"),
    "base64": (_OK + _LENGTH + _ITEM + b'"', b"AAAA"),
    "trailers": (_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a:1\r\n"),
    "name of a trailer": (_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a"),
    "chunk extension": (_OK + b"transfer-encoding: chunked\r\n\r\n1;", b"a=b;"),
    "head": (_OK, b"a: 1\r\n"),
    "1xx": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "gzip": (_OK + b"content-encoding: gzip\r\n" + _LENGTH + b"\x1f\x8b\x08", b"\0"),
    "depth": (_OK + _LENGTH + _ITEM, b"["),
    "refusal": (b"HTTP/1.1 500 X\r\n" + _LENGTH, b"<html>"),
    "refusal until it closes": (b"HTTP/1.1 503 X\r\n\r\n", b"x"),
}
"""Of a hostile provider: how an answer begins, and what comes then without end."""
