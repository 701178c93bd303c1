"""Requests to one Vault: over shared connections, in bounded time, and counted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hvac.adapters
import hvac.exceptions
import requests
import requests.adapters

from embedding_operator.vault import failures

METHODS: Final = ("kubernetes", "token", "approle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Vault is and how to sign in. All of it is the administrator's, none a policy's.

    `poll_seconds` is how often a path is looked at, and the most that a backoff waits, which begins
    with `retry_seconds`. `concurrency` bounds the requests that are made at the same time.
    """

    address: str
    ca_file: Path | None = None
    vault_namespace: str | None = None
    method: str = "kubernetes"
    auth_mount: str = "kubernetes"
    audience: str = "vault"
    token_file: Path | None = None
    role_id_file: Path | None = None
    secret_id_file: Path | None = None
    poll_seconds: float = 60.0
    retry_seconds: float = 1.0
    timeout_seconds: float = 5.0
    concurrency: int = 8


class Connections:
    """Connections to a Vault. `observe` is told the outcome of each request."""

    def __init__(self, *, settings: Settings, observe: Callable[[str], None]) -> None:
        self._settings = settings
        self._observe = observe
        self._pool = requests.Session()
        self._pool.verify = str(settings.ca_file) if settings.ca_file else True
        self._pool.mount(
            settings.address,
            requests.adapters.HTTPAdapter(
                pool_connections=1, pool_maxsize=settings.concurrency, max_retries=0
            ),
        )

    def anonymous(self) -> hvac.adapters.JSONAdapter:
        """A client that has no token yet."""
        return _Counted(self._settings, self._pool, self._observe)


class _Counted(hvac.adapters.JSONAdapter):
    """Requests to Vault over shared connections, each told with its outcome."""

    def __init__(
        self, settings: Settings, connections: requests.Session, observe: Callable[[str], None]
    ) -> None:
        super().__init__(
            base_uri=settings.address,
            namespace=settings.vault_namespace,
            timeout=settings.timeout_seconds,  # type: ignore[arg-type] # requests takes parts
            session=connections,
            # The address is the administrator's; a redirect would carry the token elsewhere.
            allow_redirects=False,
        )
        self._observe = observe

    def _raise_for_error(self, method: str, url: str, response: requests.Response) -> None:
        try:
            # The one place that sees the headers; the stubs leave it out.
            super()._raise_for_error(method, url, response)  # type: ignore[misc]
        except hvac.exceptions.RateLimitExceeded as error:
            raise failures.BusyError(error, response.headers.get("Retry-After", "")) from None

    def request(self, *arguments: Any, **keywords: Any) -> Any:
        try:
            answer = super().request(*arguments, **keywords)
        except failures.FOREIGN as error:
            self._observe(failures.of_reading(error).reason)
            raise
        self._observe("ok")
        return answer
