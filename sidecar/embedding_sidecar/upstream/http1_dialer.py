"""Opens connections: looks up names, tries addresses, checks certificates."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, TypeVar

import aiohappyeyeballs

from embedding_sidecar.upstream import http1_request
from embedding_sidecar.upstream.tls_authorities import Authorities

NEXT_ADDRESS_SECONDS: Final = 0.25
"""Time after which the next address is tried too. Source: RFC 8305, section 8."""

MAX_ADDRESSES: Final = 64
"""Addresses of a name; the rest of a longer DNS answer is ignored."""

P = TypeVar("P", bound=asyncio.Protocol)
_Addresses = list[aiohappyeyeballs.AddrInfoType]


class Dialer:
    """Connects to origins; must be closed. An address is cached for `dns_seconds`."""

    def __init__(self, *, dns_seconds: float, authorities: Authorities) -> None:
        self._dns_seconds = dns_seconds
        self._lookups: dict[http1_request.Origin, tuple[asyncio.Task[_Addresses], float]] = {}
        self._authorities = authorities

    async def dial(self, origin: http1_request.Origin, make: Callable[[], P]) -> P:
        """A connection to any of the origin's addresses, its certificate checked.

        Raises:
            OSError: none can be had.
            ValueError: the host is no name.
        """
        loop = asyncio.get_running_loop()
        addresses = await self._addresses(origin)
        while True:
            try:
                sock = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
                )
            except OSError:
                # The addresses may be out of date.
                self._lookups.pop(origin, None)
                raise
            peer = sock.getpeername()
            try:
                _, made = await loop.create_connection(
                    make,
                    sock=sock,
                    ssl=self._authorities.context() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
            except OSError:
                aiohappyeyeballs.remove_addr_infos(addresses, peer)
                if not addresses:
                    raise
            else:
                return made

    def close(self) -> None:
        """Cancel all look-ups."""
        for lookup, _ in self._lookups.values():
            lookup.cancel()
        self._lookups.clear()

    async def _addresses(self, origin: http1_request.Origin) -> _Addresses:
        loop = asyncio.get_running_loop()
        now = loop.time()
        lookup, until = self._lookups.get(origin, (None, now))
        if lookup is None or until <= now:
            # A task: many calls may wait for it, and a cancelled one must not end it for the rest.
            lookup = loop.create_task(_look_up(origin))
            # Retrieve a failure that no call waits for any more, or asyncio would log it.
            lookup.add_done_callback(lambda it: it.cancelled() or it.exception())
            self._lookups = {
                name: known
                for name, known in self._lookups.items()
                if known[1] > now or not known[0].done()
            }
            self._lookups[origin] = lookup, now + self._dns_seconds
        try:
            found = await asyncio.shield(lookup)
        except OSError:
            self._lookups.pop(origin, None)
            raise
        addresses = found.copy()
        # The next connection begins with the next address: a name may stand for many servers.
        found.append(found.pop(0))
        return addresses


async def _look_up(origin: http1_request.Origin) -> _Addresses:
    # ADDRCONFIG: a pod without IPv6 need not ask for it. A literal address is used in any case.
    flags = 0 if ":" in origin.host else socket.AI_ADDRCONFIG
    found = await asyncio.get_running_loop().getaddrinfo(
        origin.host, origin.port, type=socket.SOCK_STREAM, flags=flags
    )
    return list(found[:MAX_ADDRESSES])
