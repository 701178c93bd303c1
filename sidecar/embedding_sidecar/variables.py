"""What is written into one variable, read as a value of its kind.

Each reader takes what is written and the variable's name, and raises InvalidSetting where it cannot
be used.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

from embedding_contract import json_fields, provider_terms, sockets
from embedding_contract import reserve as reserves
from embedding_sidecar.caching import entries

DEFAULT_PORTS: Final = sockets.DEFAULT_PORTS
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_SEVERAL_REDIS: Final = re.compile(r"rediss?\+(cluster|sentinel)://[!-~]")
_LONGEST_MILLISECONDS: Final = 3_600_000
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
SHOWN: Final = 80
_LEAST_MEMORY_BYTES: Final = 64 * 2**20
"""Hardly more than a sidecar has at rest; less is another unit."""

T = TypeVar("T")


class InvalidSetting(ValueError):  # noqa: N818 - as the contract's InvalidDocument
    """A variable that cannot be used; the text begins with its name and never holds a secret."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


def read(
    environment: Mapping[str, str], name: str, reader: Callable[[str, str], T], default: T
) -> T:
    """The value of a variable; the default where it is not set, or empty."""
    written = environment.get(name)
    return reader(written, name) if written else default


def port(value: str, name: str) -> int:
    """A port: 1 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", value) or not 0 < int(value) < 65_536:  # noqa: PLR2004 - 16 bits
        raise InvalidSetting(name, f"{value!r} is no port; 1 to 65535")
    return int(value)


def count(value: str, name: str) -> int:
    """A whole number, 0 among them."""
    if not re.fullmatch(r"[0-9]{1,13}", value) or int(value) > json_fields.MAX_COUNT:
        raise InvalidSetting(name, f"{value!r} is no number between 0 and {json_fields.MAX_COUNT}")
    return int(value)


def reserve(value: str, name: str) -> int | str:
    """A number of calls, or a share of the day."""
    if reserves.SHARE.fullmatch(value):
        return value
    if re.fullmatch(r"[0-9]{1,13}", value) and int(value) <= json_fields.MAX_COUNT:
        return int(value)
    raise InvalidSetting(
        name,
        f"{value[:SHOWN]!r} is neither a number of calls from 0 to {json_fields.MAX_COUNT} nor a "
        "share from 0% to 100%",
    )


def limit(value: str, name: str) -> int:
    """A whole number above 0."""
    found = count(value, name)
    if found == 0:
        raise InvalidSetting(name, "must be at least 1")
    return found


def memory(value: str, name: str) -> int:
    """Bytes of memory, as many as a sidecar needs."""
    size = count(value, name)
    if size < _LEAST_MEMORY_BYTES:
        raise InvalidSetting(name, f"{value!r} is less than {_LEAST_MEMORY_BYTES} (64 MiB)")
    return size


def seconds(value: str, name: str) -> float:
    """Seconds above 0, as long as a request may take."""
    most = provider_terms.MAX_SECONDS
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value) or not 0 < float(value) <= most:
        raise InvalidSetting(name, f"{value!r} is no number of seconds above 0 and up to {most:g}")
    return float(value)


def milliseconds(value: str, name: str) -> float:
    """Milliseconds, as seconds."""
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 0 < int(value) <= _LONGEST_MILLISECONDS:
        raise InvalidSetting(
            name, f"{value!r} is no number of milliseconds from 1 to {_LONGEST_MILLISECONDS}"
        )
    return int(value) / 1000


def boolean(value: str, name: str) -> bool:
    """A word for true or false."""
    written = value.lower()
    if written not in _TRUE | _FALSE:
        raise InvalidSetting(name, f"{value!r} is neither true nor false")
    return written in _TRUE


def backup(value: str, name: str) -> str:
    """The type of the backup, or none."""
    if value not in {"voyage", "none"}:
        raise InvalidSetting(name, f"{value!r} is not known; voyage or none")
    return value


def word(value: str, name: str) -> str:
    """A name of printable ASCII characters."""
    # It goes into headers and metrics; the resource knows the same rule.
    if not re.fullmatch(r"[!-~]{1,128}", value):
        raise InvalidSetting(name, "must be 1 to 128 printable ASCII characters and no space")
    return value


def token(value: str, name: str) -> str:
    """A token, without what stands around it."""
    found = value.strip()
    if not re.fullmatch(r"[!-~]+", found):
        raise InvalidSetting(name, "holds a character that no header can, or nothing")
    return found


def cache_key(value: str, name: str) -> str:
    """The key that entries in Redis are authenticated with."""
    if entries.secret_of(value) is None:
        raise InvalidSetting(name, "must be 64 hexadecimal digits in lower case")
    return value


def pod_uid(value: str, name: str) -> str:
    """The UID of a pod."""
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", value):
        raise InvalidSetting(name, "is not the UID of a pod: letters, digits and dashes")
    return value


def hosts(value: str, name: str) -> frozenset[str]:
    """Names of hosts, in lower case."""
    found = frozenset(host.strip().lower() for host in value.split(",") if host.strip())
    for host in found:
        if not _HOST.fullmatch(host):
            raise InvalidSetting(
                name, f"{host[:SHOWN]!r} is not a host name; write names without port, by commas"
            )
    return found


def url(value: str, name: str) -> str:
    """A URL of HTTP, without a slash at the end."""
    if not re.fullmatch(r"[!-~]+", value) or not is_url(value, DEFAULT_PORTS.keys()):
        raise InvalidSetting(name, "must be an http:// or https:// URL")
    if re.search(r"[?#@]", value):
        raise InvalidSetting(name, "must have no user, query or fragment")
    return value.rstrip("/")


def redis_url(value: str, name: str) -> str:
    """A URL of Redis, in any of its forms."""
    # It may hold a password, so the value itself is never shown.
    if not (
        value.startswith("unix://")
        or is_url(value, {"redis", "rediss"})
        or _SEVERAL_REDIS.match(value)
    ):
        raise InvalidSetting(
            name,
            "must be a redis://, rediss://, redis+cluster://, redis+sentinel:// or unix:// URL",
        )
    return value


def is_url(value: str, schemes: Collection[str]) -> bool:
    """Whether it is a URL with a host, of one of these schemes."""
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # A bracket without its other, or a port that is none.
        return False
