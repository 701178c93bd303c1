"""uvicorn's own HTTP protocol, which ours must match byte for byte."""

import asyncio
import socket
from typing import Any

import uvicorn
import uvicorn.server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def config(application: Any) -> uvicorn.Config:
    """The settings that leave only what the application says in a response."""
    return uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


class Oracle:
    """Makes uvicorn's connections; looks like a Listener of ours."""

    def __init__(self, application: Any) -> None:
        self._config = config(application)
        self._config.load()
        self._state = uvicorn.server.ServerState()

    def end_next(self) -> None:
        """End each connection with the response to its next request."""
        self._state.default_headers = [(b"connection", b"close")]

    @property
    def connections(self) -> Any:
        """Those that are open."""
        return self._state.connections

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """Requests under way."""
        return self._state.tasks

    def connection(self) -> asyncio.Protocol:
        """A new one."""
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})


async def serve(application: Any, listening: socket.socket) -> None:
    """Serve until the process is told to end."""
    await uvicorn.Server(config(application)).serve(sockets=[listening])
