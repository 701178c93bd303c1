"""A stand-in provider on a real socket that can fail as networks and servers do."""

import contextlib
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes import provider, vendors

RESET = "reset"
TRUNCATED = "truncated"
SLOW = "slow"
SLOW_BODY = "slow body"
SLOW_SECONDS = 5.0

Fault = Callable[[provider.Answer], provider.Answer] | str | None


class Provider:
    """Answers as the stand-in does; calls with the text `marked`, or all, meet the fault."""

    def __init__(self) -> None:
        self.stand_in = provider.StandIn()
        self.fault: Fault = None
        self.marked: str | None = None
        self.before: Callable[[], object] = lambda: None
        """Done before such a call is answered."""
        self._lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def calls(self) -> list[provider.Call]:
        """All that was asked."""
        return self.stand_in.calls

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[provider.Answer, str | None]:
        """The answer, and how it is to be sent."""
        meant = self.marked is None or self.marked in vendors.texts(path, body)
        if meant:
            self.before()
        with self._lock:
            self.stand_in.fault = self.fault if meant and callable(self.fault) else None
            made = self.stand_in.answer(path, headers, body)
        return made, self.fault if meant and isinstance(self.fault, str) else None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        (status, more, answer), manner = self.provider.answer(self.path, headers, body)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if manner == RESET:
            # Closing with nothing lingering sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if manner == SLOW:
            self.provider.ended.wait(SLOW_SECONDS)
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        if manner == TRUNCATED:
            raw = raw[: len(raw) // 2]
            self.close_connection = True
        if manner == SLOW_BODY:
            deadline = time.monotonic() + SLOW_SECONDS
            while time.monotonic() < deadline and not self.provider.ended.wait(0.1):
                self.wfile.write(raw[:1])
                raw = raw[1:]
            self.close_connection = True
            return
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing is said of single requests."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Callers that went away are what is tested."""


@contextlib.contextmanager
def served(faulty: Provider) -> Iterator[str]:
    """The provider on a socket; its address without a slash at the end."""
    handler = type("Handler", (_Handler,), {"provider": faulty})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            faulty.ended.set()
            server.shutdown()
            thread.join()
