"""The administrator's list of hosts that sidecars may call, compared with the text of a URL.

Programs differ in how they read a user before the host, a backslash, a percent sign or a trailing
dot, so a URL with one of these is refused and not interpreted.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from embedding_contract import sockets

_NAME: Final = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_HOST: Final = rf"(?P<host>\[[0-9A-Fa-f:.]+\]|{_NAME})(?::(?P<port>[0-9]{{1,5}}))?"
_PATTERN: Final = re.compile(rf"(?P<any>\*\.)?{_HOST}")
_PLACE: Final = re.compile(_HOST)
_URL: Final = re.compile(
    r"(?P<scheme>https?|rediss?(?:\+cluster|\+sentinel)?)://(?:[^\s/?#@\\]*@)?(?P<places>[^/?#@]+)"
    r"(?:/[^\s?#]*)?(?:\?(?P<query>[^\s#]*))?",
    re.ASCII,
)
_USER_SCHEMES: Final = ("redis", "rediss")
"""Only Redis URLs carry a user."""
_DEFAULT_PORTS: Final = {**sockets.DEFAULT_PORTS, "sentinel": 26379}
_REDIS_PORT: Final = 6379
_PLACE_OPTIONS: Final = frozenset({"host", "port", "path", "connection_class"})
"""Options of a Redis URL that make redis-py connect elsewhere than to its host."""
_MAX_PORT: Final = 65_535
_SHOWN: Final = 10
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class InvalidHost(ValueError):  # noqa: N818 - says what is wrong with what
    """An entry of the list is not valid; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Allowed:
    """One entry; `any_label` allows one more label before `host`, no port allows every port."""

    host: str
    port: int | None
    any_label: bool

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{'*.' if self.any_label else ''}{self.host}{port}"

    def takes(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if not self.any_label:
            return host == self.host
        label, dot, rest = host.partition(".")
        return bool(label and dot) and rest == self.host


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The list; an empty one allows every host."""

    entries: tuple[_Allowed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __str__(self) -> str:
        more = len(self.entries) - _SHOWN
        told = ", ".join(str(entry) for entry in self.entries[:_SHOWN])
        return f"{told} and {more} more" if more > 0 else told

    def refusal(self, url: str) -> str | None:
        """The reason to refuse a URL; None if it is allowed.

        The text names the host: for secret URLs use `allows`.
        """
        if not self.entries:
            return None
        places = _places(url)
        if places is None:
            return (
                "the host of the URL is ambiguous; write scheme://HOST or scheme://HOST:PORT, the"
                " host in letters, digits, - and _ joined by single dots, or an IP address"
            )
        for host, port in places:
            if not any(entry.takes(host, port) for entry in self.entries):
                return f"host {host}, port {port}, is not allowed"
        return None

    def allows(self, url: str) -> bool:
        """True if the list has every host that a URL names."""
        return self.refusal(url) is None


def parse(entries: Iterable[str]) -> AllowedHosts:
    """A list of `HOST` and `*.HOST`, each with or without `:PORT`.

    Raises:
        InvalidHost: an entry has another form.
    """
    return AllowedHosts(tuple(_entry(text) for text in entries))


def _entry(text: str) -> _Allowed:
    found = _PATTERN.fullmatch(text)
    host = None if found is None else _normal(found["host"])
    port = None if found is None else _port(found["port"], default=0)
    is_wide = found is not None and found["any"] is not None
    if found is None or host is None or port is None or (is_wide and _is_address(host)):
        raise InvalidHost(
            f"{text[:200]!r} is not a host; write NAME, NAME:PORT, *.NAME for one label before it,"
            " an IPv4 address or [IPv6], without a scheme; names of other alphabets as xn--"
        )
    return _Allowed(host=host, port=port or None, any_label=is_wide)


def _places(url: str) -> list[tuple[str, int]] | None:
    """Host and port of each server in a URL; None if the URL is ambiguous."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    kind, _, form = found["scheme"].partition("+")
    if "@" in url.partition("://")[2].partition("/")[0] and kind not in _USER_SCHEMES:
        return None
    if _PLACE_OPTIONS & parse_qs(found["query"] or "", keep_blank_values=True).keys():
        return None
    default = _DEFAULT_PORTS.get(form or kind, _REDIS_PORT)
    texts = found["places"].split(",") if form else [found["places"]]
    places = [_place(text, default=default) for text in texts]
    return [it for it in places if it is not None] if None not in places else None


def _place(text: str, *, default: int) -> tuple[str, int] | None:
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    host, port = _normal(found["host"]), _port(found["port"], default=default)
    return None if host is None or port is None else (host, port)


def _port(text: str | None, *, default: int) -> int | None:
    if text is None:
        return default
    return int(text) if 1 <= int(text) <= _MAX_PORT else None


def _normal(host: str) -> str | None:
    """The normal form of a host; None for an address in a form that resolvers may misread."""
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        return None  # 127.1, 0x7f.0.0.1 and 2130706433 are 127.0.0.1 to getaddrinfo(3)
    return host.lower()


def _is_address(host: str) -> bool:
    return host.startswith("[") or bool(_NUMBER.fullmatch(host.rpartition(".")[2]))
