"""An HTTP proxy before a real server, that counts calls and can be made to fail them."""

import http.client
import http.server
import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

HANGING_SECONDS = 3.0

Fault = Callable[[str, str], int | None]
"""The status to answer a method and path with, 0 for no answer at all, None to let it through."""


class Proxy:
    """Listens on one port of loopback for as long as it is up; what is let through is unchanged."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server: http.server.ThreadingHTTPServer | None = None
        self._port = 0
        self.fault: Fault | None = None
        self.retry_after = ""
        self.calls: list[tuple[str, str]] = []
        self.up()

    @property
    def address(self) -> str:
        """Its URL, the same whether it is up or not."""
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Accept connections (again)."""
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def do_GET(self) -> None:
                proxy._handle(self)

            do_POST = do_PUT = do_LIST = do_GET  # noqa: N815 - likewise

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections; those that are open are answered no more."""
        if self._server is not None:
            self.fault = lambda *_: 0
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def back(self) -> None:
        """Work again, whatever was wrong."""
        self.fault = None
        if self._server is None:
            self.up()

    def _handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.calls.append((request.command, request.path))
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        status = self.fault(request.command, request.path) if self.fault else None
        if status == 0:
            request.close_connection = True
            return
        if status == HTTPStatus.GATEWAY_TIMEOUT:
            time.sleep(HANGING_SECONDS)
            request.close_connection = True
            return
        if status is not None:
            answer, content = json.dumps({"errors": ["made up"]}).encode(), "application/json"
        else:
            status, answer, content = self._forward(request, body)
        request.send_response(status)
        request.send_header("Content-Type", content)
        request.send_header("Content-Length", str(len(answer)))
        if status == HTTPStatus.TOO_MANY_REQUESTS and self.retry_after:
            request.send_header("Retry-After", self.retry_after)
        request.end_headers()
        request.wfile.write(answer)

    def _forward(
        self, request: http.server.BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, bytes, str]:
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=10)
        try:
            headers = {key: it for key, it in request.headers.items() if key.lower() != "host"}
            upstream.request(request.command, request.path, body or None, headers)
            answer = upstream.getresponse()
            return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        finally:
            upstream.close()
