"""Variables of a container that lead its calls past the sidecar: pure.

A container's `env` overrides the sidecar's ConfigMap in envFrom. Only the pod spec is read:
variables from a ConfigMap, a Secret or the image are unknown.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from embedding_contract import names

Object = Mapping[str, Any]

ADDRESSES: Final = (names.ENV_BASE_URL, names.ENV_BASE_URL_LEGACY)
"""The variables that hold a client's server."""
HTTP_PROXIES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
"""Proxies that apply to the sidecar's http:// address."""
PROXIES: Final = (*HTTP_PROXIES, "HTTPS_PROXY", "https_proxy")
EXCEPTIONS: Final = ("NO_PROXY", "no_proxy")
"""Both, as curl and Python read the lower case first, Go the upper."""
LOOPBACK: Final = "127.0.0.1,localhost,::1"
ADDED: Final = tuple({"name": name, "value": LOOPBACK} for name in EXCEPTIONS)
"""The variables that a container with a proxy and without exceptions gets."""
LOOKED_AT: Final = frozenset({*ADDRESSES, *PROXIES, *EXCEPTIONS})
_HOST: Final = "127.0.0.1"
_LOOPBACK_HOSTS: Final = frozenset({_HOST, "localhost", "::1"})


def exceptions(container: Object) -> Sequence[Mapping[str, str]]:
    """Variables that exempt the sidecar from a container's proxy.

    Empty if its spec sets no proxy, or sets its own exceptions.
    """
    named = {it["name"] for it in _variables(container)}
    if named.isdisjoint(PROXIES) or not named.isdisjoint(EXCEPTIONS):
        return ()
    return ADDED


def detours(pod: Object) -> list[str]:
    """Reasons why application containers of a pod do not reach its sidecar, in words.

    Native sidecars do not count: they are not the application. Values are not quoted, as a URL may
    hold a password.
    """
    return [
        f"container {container['name']} {why}"
        for container in _applications(pod["spec"])
        if (why := _detour(container)) is not None
    ]


def _applications(spec: Object) -> Iterable[Object]:
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") != "Always":
            yield container
    yield from spec.get("containers") or ()


def _detour(container: Object) -> str | None:
    found: dict[str, str] = {}
    others: set[str] = set()
    for it in _variables(container):  # the last of a name counts
        found.pop(it["name"], None)
        others.discard(it["name"])
        if it.get("valueFrom") is None:
            found[it["name"]] = str(it.get("value") or "")
        else:
            others.add(it["name"])
    for name in ADDRESSES:
        if name in found and not _is_the_sidecar(found[name]):
            return f"sets {name} itself"
    proxy = next((it for it in HTTP_PROXIES if found.get(it) or it in others), None)
    if proxy is None:
        return None
    for name in EXCEPTIONS:
        if name in found and not _excepts_loopback(found[name]):
            return f"sends all requests to its {proxy}, as its {name} lacks {_HOST}"
    return None


def _variables(container: Object) -> Iterable[Object]:
    return container.get("env") or ()


def _is_the_sidecar(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        called = (parts.scheme, parts.port)
    except ValueError:
        return False
    return called == ("http", names.API_PORT) and parts.hostname in _LOOPBACK_HOSTS


def _excepts_loopback(value: str) -> bool:
    return any(_is_loopback(it.strip()) for it in value.split(","))


def _is_loopback(entry: str) -> bool:
    if entry in ("*", _HOST, f"{_HOST}:{names.API_PORT}"):
        return True
    if "/" not in entry:
        return False
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return ipaddress.ip_address(_HOST) in network
