"""The bytes of a request (RFC 9112). Invalid values are refused, never repaired."""

import functools
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from embedding_contract.sockets import DEFAULT_PORTS

_REMEMBERED: Final = 64
"""URLs, of which a policy has one for each of its 8 providers at most."""
_REMEMBERED_LINES: Final = 16
"""Sets of headers, each with a key: for each of 8 providers the present and the previous one."""

_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_VALUES: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""The characters that RFC 9110, section 5.5, allows in a value: none could end a line."""
_VISIBLE: Final = re.compile(r"[!-~]+")


class Origin(NamedTuple):
    """The server of a connection; `host` has no brackets if it is an IPv6 address."""

    tls: bool
    host: str
    port: int


class Target(NamedTuple):
    """The origin that a URL's requests go to, and their first two lines."""

    origin: Origin
    start: bytes


@functools.lru_cache(maxsize=_REMEMBERED)
def target(url: str) -> Target:
    """Read a URL, and remember it.

    Raises:
        ValueError: it is no http:// or https:// URL in visible ASCII, or names a user.
    """
    parts = urlsplit(url)
    port = DEFAULT_PORTS.get(parts.scheme)
    # A dot at the end makes a name absolute; certificates and servers have it without.
    host = (parts.hostname or "").rstrip(".")
    if port is None or not host or "@" in parts.netloc or not _VISIBLE.fullmatch(url):
        raise ValueError("this is no URL of a provider")
    named = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != port:
        port = parts.port
        named = f"{named}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return Target(
        Origin(parts.scheme == "https", host, port),
        f"POST {parts.path or '/'}{query} HTTP/1.1\r\nhost: {named}\r\n".encode("latin-1"),
    )


def head(target: Target, headers: Mapping[str, str], *, body_bytes: int) -> bytes:
    """All bytes before the body; `headers` are those that do not concern the connection.

    Raises:
        ValueError: a header holds an invalid character; the message does not show it.
    """
    return b"%b%bcontent-length: %d\r\n\r\n" % (
        target.start,
        _lines(tuple(headers.items())),
        body_bytes,
    )


@functools.lru_cache(maxsize=_REMEMBERED_LINES)
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Cached: the lines are the same for every call to one provider with one key."""
    names, values = zip(*headers, strict=True) if headers else ((), ())
    if not _NAMES.fullmatch("".join(names)) or not _VALUES.fullmatch("".join(values)):
        raise ValueError("a header cannot be written")
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
