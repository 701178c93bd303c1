"""Requests to one Vault: over shared connections, in bounded time, and counted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hvac.adapters
import requests
import requests.adapters

from embedding_operator.vault import failures

METHODS: Final = ("kubernetes", "token", "approle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Vault is and how to log in. The administrator sets all of it, a policy none.

    Each path is polled every `poll_seconds`, which is also the longest backoff; the first one is
    `retry_seconds`. `concurrency` bounds the requests under way.
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


class Client(hvac.adapters.JSONAdapter):
    """A client of Vault, without a token at first; `observe` is told the outcome of each request.

    Every request raises VaultReadError where Vault does not answer, or answers with an error.
    """

    def __init__(
        self,
        *,
        address: str,
        timeout_seconds: float,
        observe: Callable[[str], None] = lambda _: None,
        **more: Any,
    ) -> None:
        super().__init__(
            base_uri=address,
            timeout=timeout_seconds,  # type: ignore[arg-type] # requests takes parts
            # The address is the administrator's; a redirect would carry the token elsewhere.
            allow_redirects=False,
            **more,
        )
        self._observe = observe

    def request(self, *arguments: Any, **keywords: Any) -> Any:
        """The answer as JSON; whatever is no JSON, as of another web server, as a Response."""
        try:
            answer = super().request(*arguments, raise_exception=False, **keywords)
        except (OSError, ValueError) as error:  # requests has kinds of both
            failure = failures.of_no_answer(error)
        else:
            if not isinstance(answer, requests.Response) or answer.ok:
                self._observe("ok")
                return answer
            failure = failures.of_answer(answer)
        # Outside of the handler: the library's error may quote the request.
        self._observe(failure.reason)
        raise failure


_OF_SESSION: Final = frozenset({"allow_redirects", "cert", "proxies", "verify"})
"""Given by hvac with each request; here those of the session count."""


class _Connections(requests.Session):
    """A session with one server, asked tens of times a second.

    It is without what takes a session half of its time: with each request one reads the proxies
    and the .netrc of the environment, and merges cookies. Here proxies are read once.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.verify = str(settings.ca_file) if settings.ca_file else True
        self._adapter = requests.adapters.HTTPAdapter(
            pool_connections=1, pool_maxsize=settings.concurrency, max_retries=0
        )
        self._sending = self.merge_environment_settings(
            settings.address, {}, stream=None, verify=self.verify, cert=None
        )

    def request(  # type: ignore[override] # of which hvac uses these
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        timeout: float,
        json: Any = None,
        **others: Any,
    ) -> requests.Response:
        """Send one request, and read the whole answer; no redirect is followed.

        Raises:
            TypeError: hvac gives something else that a request would need.
        """
        if unknown := others.keys() - _OF_SESSION:
            raise TypeError(f"requests to Vault do not send {', '.join(sorted(unknown))}")
        asked = requests.Request(method.upper(), url, headers=headers, json=json).prepare()
        answer = self._adapter.send(asked, timeout=timeout, **self._sending)
        _ = answer.content  # read now, so that failures are those of the request
        return answer


def clients(settings: Settings, observe: Callable[[str], None]) -> Callable[[], Client]:
    """A factory of clients that share connections."""
    pool = _Connections(settings)
    return lambda: Client(
        address=settings.address,
        timeout_seconds=settings.timeout_seconds,
        observe=observe,
        namespace=settings.vault_namespace,
        session=pool,
    )
