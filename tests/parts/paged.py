"""The page of `kubectl embedding dashboard` on loopback, with views that a test gives."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embedding_operator.console import overview, server

AT = "2026-11-29T10:00:00+00:00"


class Views:
    """Views of policies and series; `error` is raised where it is set."""

    def __init__(self, *policies: dict[str, Any], seen: overview.Seen | None = None) -> None:
        self.policies = list(policies)
        self.seen = seen or overview.Seen()
        self.drawn: list[dict[str, Any]] | None = None
        self.error: Exception | None = None

    def state(self) -> dict[str, Any]:
        """As `server.Views` says."""
        if self.error is not None:
            raise self.error
        return overview.build(self.policies, self.seen, at=AT, scope="all namespaces")

    def plots(self, namespace: str, name: str) -> dict[str, Any] | None:
        """As `server.Views` says."""
        return None if self.drawn is None else {"seconds": 21600, "plots": self.drawn}


@contextmanager
def served(views: server.Views) -> Iterator[str]:
    """The page; its whole address, with the token."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    page = server.Server(views)
    try:
        asyncio.run_coroutine_threadsafe(page.start(), loop).result(10)
        yield page.url
    finally:
        asyncio.run_coroutine_threadsafe(page.stop(), loop).result(10)
        # Until its connections' ends have been told, too.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def policy(name: str, *, namespace: str = "shop", **status: Any) -> dict[str, Any]:
    """A policy with two providers and this status."""
    return {
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": {
            "providers": [
                {"name": "openai", "type": "OpenAI", "model": "text-embedding-3-small"},
                {"name": "voyage", "type": "Voyage", "model": "voyage-3.5"},
            ],
            "quota": {"daily": {"requests": 10000}},
        },
        "status": status,
    }


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    """A condition of a status."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": AT,
    }
