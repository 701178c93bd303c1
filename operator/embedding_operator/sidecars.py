"""Asking running sidecars what they hold, on the pod's address and with the policy's API token."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx2

from embedding_contract import names
from embedding_operator import status

TIMEOUT_SECONDS: Final = 1.0
WHOLE_SECONDS: Final = 3.0
BODY_BYTES: Final = 65_536
TEXT_CHARACTERS: Final = 500
COUNT_LIMIT: Final = 2**62
PROVIDERS_LIMIT: Final = 8  # as the resource's schema says, and the next
_PROVIDER: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_NO_DOCUMENT: Final[dict[str, Any]] = {}
"""Stands for the page of a sidecar that runs, and has no document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a sidecar says is in force; `rejected` says why a newer document is not.

    `keys_refused` names providers that refuse the newest key; None where that is not told.
    """

    document: str
    secrets: str
    rejected: str | None
    keys_refused: frozenset[str] | None = None


class Sidecars:
    """Calls to sidecars; one that cannot be asked answers None."""

    def __init__(self, *, port: int = names.ADMIN_PORT) -> None:
        self._port = port
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20)
        # Pod addresses are reached directly, whatever proxy the environment names.
        self._client = httpx2.Client(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False)

    def in_force(self, address: str, *, token: str) -> InForce | None:
        """The fingerprints of a sidecar; empty ones where it has no document yet."""
        page = self._get(address, names.PATH_CONFIG, token)
        try:
            return None if page is None else _in_force(page)
        except (KeyError, TypeError):
            return None

    def quota(self, address: str, *, token: str) -> status.LiveQuota | None:
        """The live quota of a sidecar's policy."""
        page = self._get(address, names.PATH_QUOTA, token)
        try:
            return None if page is None or page is _NO_DOCUMENT else _quota(page)
        except (KeyError, TypeError, ValueError):
            return None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _get(self, address: str, path: str, token: str) -> dict[str, Any] | None:
        host = f"[{address}]" if ":" in address else address
        try:
            with self._client.stream(
                "GET",
                f"http://{host}:{self._port}{path}",
                headers={"Authorization": f"Bearer {token}"},
            ) as answer:
                page = json.loads(_read(answer))
        except (httpx2.HTTPError, ValueError):
            # Not running yet, not reachable, or no sidecar of ours: it cannot be asked.
            return None
        if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            return _NO_DOCUMENT
        return page if answer.is_success and isinstance(page, dict) else None


# What answers on a pod's address may be anything: it goes into a status only if it fits there.


def _read(answer: httpx2.Response) -> bytes:
    """The body, if it is short and comes soon: a time-out of the client is one of each read."""
    body = b""
    deadline = time.monotonic() + WHOLE_SECONDS
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > BODY_BYTES or time.monotonic() > deadline:
            raise ValueError("no answer of a sidecar")
    return body


def _in_force(page: Mapping[str, Any]) -> InForce:
    if page is _NO_DOCUMENT:
        return InForce(document="", secrets="", rejected=None)
    rejected = page["rejected"]
    return InForce(
        document=_text(page["document_fingerprint"]),
        secrets=_text(page["secrets_fingerprint"]),
        rejected=None if rejected is None else _text(rejected),
        # Sidecars outlive an upgrade of the operator: an older one does not tell.
        keys_refused=_names(page["keys_refused"]) if "keys_refused" in page else None,
    )


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > PROVIDERS_LIMIT:
        raise TypeError(value)
    if not all(isinstance(name, str) and _PROVIDER.fullmatch(name) for name in value):
        raise TypeError(value)
    return frozenset(value)


def _quota(page: Mapping[str, Any]) -> status.LiveQuota:
    limit = page["daily_quota"]
    return status.LiveQuota(
        used=_count(page["current_count"]),
        limit=None if limit is None else _count(limit),
        reset_at=datetime.fromisoformat(page["reset_at"]).astimezone(UTC),
        exact=page["exact"] is True,
        exact_reason=_text(page["exact_reason"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:TEXT_CHARACTERS]


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= COUNT_LIMIT:
        raise TypeError(value)
    return value
