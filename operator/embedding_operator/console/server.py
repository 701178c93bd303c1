"""Serve the page on loopback, read only, to the browser that knows the token.

Each request is refused unless its path begins with the token, its Host is this server's loopback
address (against DNS rebinding) and no other site sent it (Origin, Sec-Fetch-Site). The
page gets its content as JSON and inserts it as text.
"""

import asyncio
import hmac
import json
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final, Protocol

from aiohttp import web

from embedding_operator import errors

HOST: Final = "127.0.0.1"
TOKEN_BYTES: Final = 32
_SHUTDOWN_SECONDS: Final = 1.0
"""The wait for idle connections, which browsers open in advance; aiohttp's default is 60."""
_ACCEPT_SECONDS: Final = 0.05
"""Time for an acceptance in progress to become a connection."""
_FILES: Final = {
    "": ("index.html", "text/html"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "style.css": ("style.css", "text/css"),
    "theme.js": ("theme.js", "text/javascript"),
    "page.js": ("page.js", "text/javascript"),
    "plots.js": ("plots.js", "text/javascript"),
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src"
        " 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Views(Protocol):
    """The data of the page; each call may block, and raise errors.OperatorError."""

    def state(self) -> dict[str, Any]:
        """The overview."""

    def plots(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Plots of one policy; None without a Prometheus or for an unknown policy."""


class Server:
    """The page on one port of loopback."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._runner: web.AppRunner | None = None
        self._listening: socket.socket | None = None
        self._allowed: frozenset[str] = frozenset()
        self.url = ""

    async def start(self, port: int = 0) -> None:
        """Listen; `url` is the address to open, with the token. Port 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[self._guard])
        prefix = "/{token}/"
        for name in _FILES:
            app.router.add_get(prefix + name, _file(name))
        app.router.add_get(prefix + "state.json", self._state)
        app.router.add_get(prefix + "plots.json", self._plots)
        # No access log: its lines would hold the token.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        self._listening = socket.create_server((HOST, port))
        await web.SockSite(self._runner, self._listening).start()
        bound = self._listening.getsockname()[1]
        self._allowed = frozenset({f"{HOST}:{bound}", f"localhost:{bound}"})
        self.url = f"http://{HOST}:{bound}/{self._token}/"

    async def stop(self) -> None:
        """Stop listening, and close all connections within 2 seconds."""
        if self._runner is None:
            return
        if self._listening is not None:
            # asyncio loses a connection that it is accepting when its server is closed.
            asyncio.get_running_loop().remove_reader(self._listening)
            await asyncio.sleep(_ACCEPT_SECONDS)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = self._refusal(request)
            answer = await handler(request) if refusal is None else refusal
        except web.HTTPException as refused:
            answer = web.Response(status=refused.status, text=refused.reason)
        answer.headers.update(_HEADERS)
        return answer

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Host") not in self._allowed:
            return web.Response(status=403, text="Open the address that the command printed.")
        origin = request.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self._allowed:
            return web.Response(status=403, text="Requests from other sites are refused.")
        if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            return web.Response(status=403, text="Requests from other sites are refused.")
        given = request.match_info.get("token", "").encode()
        if not hmac.compare_digest(given, self._token.encode()):
            return web.Response(
                status=403, text="The token is wrong: open the address that the command printed."
            )
        return None

    async def _state(self, _: web.Request) -> web.Response:
        return await _answer(self._views.state)

    async def _plots(self, request: web.Request) -> web.Response:
        namespace, name = (request.query.get(key, "") for key in ("namespace", "name"))
        return await _answer(lambda: self._views.plots(namespace, name))


def _file(name: str) -> Handler:
    file, kind = _FILES[name]
    text = resources.files("embedding_operator.console").joinpath("web", file).read_text("utf-8")

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind, charset="utf-8")

    return serve


async def _answer(look: Callable[[], Any]) -> web.Response:
    try:
        found = await asyncio.to_thread(look)
    except errors.OperatorError as error:
        return _json({"error": str(error)}, status=502)
    return _json(found)


def _json(body: Any, *, status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=True)
    return web.Response(text=text, status=status, content_type="application/json")
