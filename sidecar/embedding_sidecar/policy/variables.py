"""Readers of single variables of the environment: each takes the text and returns the value.

A reader raises ValueError where the text cannot be used, and its message holds no secret.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

from embedding_contract import json_fields, money, provider_terms, sockets
from embedding_contract import reserve as reserves
from embedding_sidecar.cache import entry_encoding
from embedding_sidecar.quota import prices

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_SEVERAL_REDIS: Final = re.compile(r"rediss?\+(cluster|sentinel)://[!-~]")
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
SHOWN: Final = 80
"""Characters of a value in a message."""

T = TypeVar("T")


class InvalidSetting(ValueError):  # noqa: N818 - as the contract's InvalidDocument
    """A variable that cannot be used; the text begins with its name and never holds a secret."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


def read(environment: Mapping[str, str], name: str, reader: Callable[[str], T], default: T) -> T:
    """The value of a variable; the default where it is not set, or empty.

    Raises:
        InvalidSetting: its text cannot be used.
    """
    written = environment.get(name)
    if not written:
        return default
    try:
        return reader(written)
    except ValueError as error:
        raise InvalidSetting(name, str(error)) from None


def integer(least: int, most: int, *, noun: str = "number") -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def read(value: str) -> int:
        digits = re.fullmatch(r"[0-9]+", value) and len(value) <= len(str(most))
        if not digits or not least <= int(value) <= most:
            raise ValueError(f"{value[:SHOWN]!r} is not a valid {noun} ({least}-{most})")
        return int(value)

    return read


def pattern(form: str, message: str) -> Callable[[str], str]:
    """A text of this form; the message does not show it."""

    def read(value: str) -> str:
        if not re.fullmatch(form, value):
            raise ValueError(message)
        return value

    return read


cost: Final = money.nanos
price: Final = prices.checked
port: Final = integer(1, 65_535, noun="port")
count: Final = integer(0, json_fields.MAX_COUNT)
limit: Final = integer(1, json_fields.MAX_COUNT)
memory: Final = integer(64 * 2**20, json_fields.MAX_COUNT, noun="number of bytes")
"""Bytes, from 64 MiB: hardly more than a sidecar has at rest; less must be another unit."""
milliseconds: Final = integer(1, 3_600_000, noun="number of milliseconds")
word: Final = pattern("[!-~]{1,128}", "must be 1 to 128 printable ASCII characters without spaces")
"""The name of a model, which goes into headers and metrics; the resource has the same rule."""
_token: Final = pattern("[!-~]+", "must be printable ASCII characters without spaces")
pod_uid: Final = pattern("[0-9A-Za-z-]{1,64}", "must be the UID of a pod: letters, digits, dashes")


def token(value: str) -> str:
    """A token, without the white space around it."""
    return _token(value.strip())


def reserve(value: str) -> int | str:
    """A number of calls, or a share of the day."""
    if reserves.SHARE.fullmatch(value):
        return value
    try:
        return count(value)
    except ValueError:
        raise ValueError(
            f"{value[:SHOWN]!r} is neither a number of calls (0-{json_fields.MAX_COUNT}) nor a "
            "share of the day (0%-100%)"
        ) from None


def seconds(value: str) -> float:
    """Seconds above 0, up to the longest request."""
    most = provider_terms.MAX_SECONDS
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value) or not 0 < float(value) <= most:
        raise ValueError(
            f"{value[:SHOWN]!r} is not a valid number of seconds (above 0, to {most:g})"
        )
    return float(value)


def mode(value: str) -> bool:
    """True where limits are only observed."""
    if value not in {"Enforce", "Observe"}:
        raise ValueError(f"{value[:SHOWN]!r} is neither Enforce nor Observe")
    return value == "Observe"


def boolean(value: str) -> bool:
    """A word for true or false."""
    written = value.lower()
    if written not in _TRUE | _FALSE:
        raise ValueError(f"{value[:SHOWN]!r} is neither true nor false")
    return written in _TRUE


def backup(value: str) -> str:
    """The type of the backup provider, or none."""
    if value not in {"voyage", "none"}:
        raise ValueError(f"{value[:SHOWN]!r} is not a backup provider; write voyage or none")
    return value


def cache_key(value: str) -> str:
    """The key that authenticates entries in Redis."""
    if entry_encoding.secret_of(value) is None:
        raise ValueError("must be 64 hexadecimal digits in lower case")
    return value


def hosts(value: str) -> frozenset[str]:
    """Names of hosts, in lower case."""
    found = frozenset(host.strip().lower() for host in value.split(",") if host.strip())
    for host in found:
        if not _HOST.fullmatch(host):
            raise ValueError(
                f"{host[:SHOWN]!r} is not a host name; write names without ports, with commas "
                "between them"
            )
    return found


def url(value: str) -> str:
    """A URL of HTTP, without a slash at the end."""
    if not re.fullmatch(r"[!-~]+", value) or not is_url(value, sockets.DEFAULT_PORTS.keys()):
        raise ValueError("must be an http:// or https:// URL")
    if re.search(r"[?#@]", value):
        raise ValueError("must be a URL without user, query and fragment")
    return value.rstrip("/")


def redis_url(value: str) -> str:
    """A URL of Redis, in any of its forms; it may hold a password."""
    if not (
        value.startswith("unix://")
        or is_url(value, {"redis", "rediss"})
        or _SEVERAL_REDIS.match(value)
    ):
        raise ValueError(
            "must be a redis://, rediss://, redis+cluster://, redis+sentinel:// or unix:// URL"
        )
    return value


def is_url(value: str, schemes: Collection[str]) -> bool:
    """True for a URL with a host and one of these schemes."""
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # A bracket without its other, or an invalid port.
        return False
