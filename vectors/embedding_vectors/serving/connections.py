"""Connections that any pod of the cluster may open: bounded in number, and by the time of a head.

A flood from a few addresses takes places from itself alone, so probes and sidecars always get one.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_CONNECTIONS: Final = 1_024
MAX_PER_ADDRESS: Final = 64
"""A sidecar opens one for each search that it has under way."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a request, or from the opening, to the end of its head."""
MAX_HEAD_BYTES: Final = 65_536


class ConnectionLimit:
    """The connections of one listener."""

    def __init__(self, *, total: int = MAX_CONNECTIONS, per_address: int = MAX_PER_ADDRESS) -> None:
        self._total = total
        self._per_address = per_address
        self._count = 0
        self._held: dict[str, dict[Connection, None]] = {}
        """By address, in the order in which they came."""

    def enter(self, new: "Connection") -> None:
        """Take a place, and another one's where there is none."""
        same = self._held.setdefault(new.address, {})
        same[new] = None
        self._count += 1
        if len(same) > self._per_address:
            self._make_room(same, new)
        elif self._count > self._total:
            self._make_room(max(self._held.values(), key=len), new)

    def leave(self, gone: "Connection") -> None:
        """Give the place back; a second time changes nothing."""
        same = self._held.get(gone.address, {})
        if gone in same:
            del same[gone]
            self._count -= 1
            if not same:
                del self._held[gone.address]

    def _make_room(self, among: "Collection[Connection]", new: "Connection") -> None:
        goes = next((it for it in among if it is not new and not it.is_answering), new)
        self.leave(goes)
        goes.drop()


class Connection(HttpToolsProtocol):
    """One of uvicorn's, with a time for each head and a bound for its bytes."""

    limit: ConnectionLimit

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.address = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def drop(self) -> None:
        """End it at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._await_head()
        self.limit.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give it back."""
        self._end_head()
        self.limit.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; of a head so much and no more."""
        if not self.is_answering:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.drop()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._end_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.drop)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
