"""Asking running sidecars what they hold, on the pod's address and with the policy's API token."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx2

from embedding_contract import names
from embedding_operator import status

TIMEOUT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a sidecar says is in force; `rejected` says why a newer document is not."""

    document: str
    secrets: str
    rejected: str | None


class Sidecars:
    """Calls to sidecars; one that cannot be asked answers None."""

    def __init__(self) -> None:
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20)
        # Pod addresses are reached directly, whatever proxy the environment names.
        self._client = httpx2.Client(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False)

    def in_force(self, address: str, *, token: str) -> InForce | None:
        """The fingerprints of a sidecar; empty ones where it has no document yet."""
        page = self._get(address, names.PATH_CONFIG, token)
        if page is None:
            return None
        return InForce(
            document=str(page.get("document_fingerprint", "")),
            secrets=str(page.get("secrets_fingerprint", "")),
            rejected=page.get("rejected"),
        )

    def quota(self, address: str, *, token: str) -> status.LiveQuota | None:
        """The live quota of a sidecar's policy."""
        page = self._get(address, names.PATH_QUOTA, token)
        if page is None or "current_count" not in page:
            return None
        return status.LiveQuota(
            used=page["current_count"],
            limit=page["daily_quota"],
            reset_at=datetime.fromisoformat(page["reset_at"]),
            exact=page["exact"],
            exact_reason=page["exact_reason"],
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _get(self, address: str, path: str, token: str) -> dict[str, Any] | None:
        host = f"[{address}]" if ":" in address else address
        try:
            answer = self._client.get(
                f"http://{host}:{names.ADMIN_PORT}{path}",
                headers={"Authorization": f"Bearer {token}"},
            )
            page = answer.json()
        except (httpx2.HTTPError, ValueError):
            # Not running yet, not reachable, or no sidecar of ours: it cannot be asked.
            return None
        if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            return {}  # it runs, and has no document
        return page if answer.is_success and isinstance(page, dict) else None
