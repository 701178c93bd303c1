"""What a container's own environment does with the sidecar's address: pure.

A container's `env` comes before what the sidecar's ConfigMap gives it by envFrom. Only what the pod
spec itself says is seen: a variable that comes from a ConfigMap, a Secret or the image is not.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from embedding_contract import names

Object = Mapping[str, Any]

ADDRESSES: Final = (names.ENV_BASE_URL, names.ENV_BASE_URL_LEGACY)
"""Where a client looks for its server."""
HTTP_PROXIES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
"""Whose proxy gets what is sent to the sidecar's http:// address."""
PROXIES: Final = (*HTTP_PROXIES, "HTTPS_PROXY", "https_proxy")
EXCEPTIONS: Final = ("NO_PROXY", "no_proxy")
"""Clients read one or the other: curl and Python the lower case first, Go the upper."""
LOOPBACK: Final = "127.0.0.1,localhost,::1"
LOOKED_AT: Final = frozenset({*ADDRESSES, *PROXIES, *EXCEPTIONS})
_HOST: Final = "127.0.0.1"
_LOOPBACK_HOSTS: Final = frozenset({_HOST, "localhost", "::1"})


def exceptions(container: Object) -> list[dict[str, str]]:
    """The variables that keep a container's calls to the sidecar away from its proxy.

    None where its spec sets no proxy, or says itself what goes by none.
    """
    named = {it["name"] for it in _variables(container)}
    if named.isdisjoint(PROXIES) or not named.isdisjoint(EXCEPTIONS):
        return []
    return [{"name": name, "value": LOOPBACK} for name in EXCEPTIONS]


def detours(pod: Object) -> list[str]:
    """Why applications of a pod do not reach its sidecar, each with its container, in words.

    Native sidecars are left out: they are not the application. The values are not told: a URL may
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
    for it in _variables(container):  # of two of a name the later one counts
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
            return f"sends all to its {proxy}, as its {name} lacks {_HOST}"
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
