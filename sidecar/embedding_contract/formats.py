"""Formats of the policy document: the keys that came after version 1 was first written.

A reader ignores keys that it does not know. `requires` names those that it must not ignore; this
table names all, so that the operator sees which of them a pod of an older release does not obey.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

FIRST: Final = 1
"""Sidecars that know Bearer alone, and cannot prove the API token."""
PROVEN: Final = 2
"""Sidecars that prove the API token, and do not report a format yet."""
CURRENT: Final = 2
"""The format that this release reads and reports. A release that adds a key adds one to it."""

SINCE: Final[Mapping[str, int]] = MappingProxyType(
    {
        "providers.limits": 2,
        "providers.timeouts": 2,
        "providers.passThroughFields": 2,
        "providers.weight": 2,
        "providers.rate": 2,
        "providers.class": 2,
        "providers.azure": 2,
        "providers.region": 2,
        "quota.daily.cost": 2,
        "quota.monthly": 2,
        "quota.mode": 2,
        "indexes": 2,
        "network": 2,
        "classes": 2,
    }
)
"""The format in which each key came. A path without indexes stands for all items of a list.

`quota.reserveForApplications` is not among them, though later: it is always written, and keeps back
only requests that say that they are background, as an older release's do not."""

Later = tuple[tuple[str, int], ...]
"""Keys of a document that came later than the first format, each with its own."""


def later(document: Mapping[str, Any]) -> Later:
    """The keys of SINCE that this document sets, in order."""
    return tuple(
        (path, since)
        for path, since in SINCE.items()
        if any(map(_is_set, _values(document, path.split("."))))
    )


def unknown(used: Later, *, to: int) -> tuple[str, ...]:
    """Those of the used keys that a reader of the format `to` does not know."""
    return tuple(path for path, since in used if since > to)


def _values(found: object, path: list[str]) -> Iterator[object]:
    if isinstance(found, list):
        for item in found:
            yield from _values(item, path)
    elif not path:
        yield found
    elif isinstance(found, dict) and path[0] in found:
        inner = found[path[0]]
        # The list at the end of a path is a value; one on the way stands for its items.
        yield from [inner] if len(path) == 1 else _values(inner, path[1:])


def _is_set(value: object) -> bool:
    """True unless it is what an absent key means: some of these keys are always written."""
    return value is not None and value not in ([], {})
