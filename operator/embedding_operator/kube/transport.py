"""Requests to one API server, over connections that are kept, as the user of a configuration.

The generated client of the library takes as much time again to serialize a request as to send it.
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes
import msgspec
import urllib3

from embedding_operator.kube import fence
from embedding_operator.kube.kinds import Object

CONNECTIONS_KEPT: Final = 32
"""Idle ones: workers of all queues, and polls of Vault that need tokens, call at the same time."""


class Transport:
    """Sends each request once.

    By default urllib3 makes each call up to four times, and sleeps for a Retry-After. Here a call
    has one time-out, and the queue retries. `check` is that of KubeClient.
    """

    def __init__(self, client: Any, *, check: fence.Check | None = None) -> None:
        self._configuration: Final = client.configuration
        self._headers: Final = dict(client.default_headers)
        self._configuration.retries = False
        self._configuration.connection_pool_maxsize = CONNECTIONS_KEPT
        made = kubernetes.client.rest.RESTClientObject(self._configuration)
        self._pool: urllib3.PoolManager = made.pool_manager
        if check is not None:
            fence.put_before(self._pool, check)

    def send(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        timeout_seconds: tuple[float, float],
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        content: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        """The answer, whose body is unread. Time-outs are to connect, and for each read.

        Raises:
            urllib3.exceptions.HTTPError: there is none.
        """
        headers = {**self._headers, "Accept": accept}
        # Asked each time: tokens of ServiceAccounts are replaced.
        bearer = self._configuration.auth_settings().get("BearerToken")
        if bearer is not None and bearer["value"] is not None:
            headers["Authorization"] = bearer["value"]
        raw = None
        if body is not None:
            headers["Content-Type"] = content
            raw = msgspec.json.encode(body)
        asked = f"?{urlencode(query)}" if query else ""
        connect_seconds, read_seconds = timeout_seconds
        return self._pool.urlopen(
            method,
            f"{self._configuration.host}{path}{asked}",
            body=raw,
            headers=headers,
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            redirect=False,
            retries=False,
            preload_content=False,
        )
