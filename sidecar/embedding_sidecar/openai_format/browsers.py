"""Refuses requests that only a page in a browser sends.

A browser in the pod's network, or on a developer's machine, runs pages of any origin, and a page
may send requests to any address. It cannot read the answers, but it would spend the policy's quota.
A page whose name points here (DNS rebinding) could read them as well; its requests have that name
as their Host.

Sources: WHATWG Fetch, section 3.2 (Origin); W3C Fetch Metadata, section 2.3 (Sec-Fetch-Site);
RFC 9110, section 7.2 (Host).
"""

import functools
import re
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.openai_format import openai_json, request_headers

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@,\s]+)(?::[0-9]{0,5})?")
_OWN_SITES: Final = frozenset({"none", "same-origin"})
"""A person who typed the address, or a page that came from here."""
_REMEMBERED: Final = 16
"""Hosts, of at most a head's 64 KiB each."""
_SCHEMES: Final = ("http://", "https://")
"""The second is used where a proxy in front of the sidecar terminates TLS."""


def check(head: request_headers.Head, *, hosts: frozenset[str] | None) -> None:
    """Refuse a request that a page of another origin sent.

    `hosts` are the names, in lower case and without port, by which this server may be called; None
    for any.

    Raises:
        errors.Rejected: 403, with `param` naming the header.
    """
    host = head.host
    # A browser sends a Host that is not empty.
    if hosts is not None and host and _name(host) not in hosts:
        raise _forbidden(
            "Host",
            f"The host {_shown(host)} is not a name of this sidecar. Call it as 127.0.0.1 or "
            "localhost, or add the name to EMBEDDING_ALLOWED_HOSTS.",
            code="host_not_allowed",
        )
    site = head.sec_fetch_site
    if site is not None and site.strip().lower() not in _OWN_SITES:
        raise _forbidden(
            "Sec-Fetch-Site", f"A web page sent this request (Sec-Fetch-Site: {_shown(site)})."
        )
    origin = head.origin
    if origin is None:
        return
    own = [f"{scheme}{host}".lower() for scheme in _SCHEMES] if host else ()
    if origin.lower() not in own:
        raise _forbidden("Origin", f"A web page of {_shown(origin)} sent this request.")


@functools.lru_cache(maxsize=_REMEMBERED)
def _name(host: str) -> str:
    """The name in a Host; remembered, as callers send the same one each time."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else ""


def _shown(value: str) -> str:
    return repr(value[: openai_json.MAX_NAME])


def _forbidden(header: str, message: str, code: str = "cross_origin_request") -> errors.Rejected:
    return errors.Rejected(message, status=403, code=code, param=header)
