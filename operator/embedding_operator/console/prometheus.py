"""Queries to a Prometheus, by its URL or through the API server's proxy of its Service."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2

from embedding_operator import errors
from embedding_operator.kube import client, kinds

TIMEOUT_SECONDS: Final = 5.0
WHOLE_SECONDS: Final = 15.0
BODY_BYTES: Final = 4 * 1024 * 1024


Get = Callable[[str, Mapping[str, str]], bytes]
"""Returns the body of an answer for a path and a query; raises errors.OperatorError."""


class Direct:
    """A Prometheus at a URL, which may have a path."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.Client(timeout=TIMEOUT_SECONDS)

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The body of an answer.

        Raises:
            errors.OperatorError: there is none, or it is too long.
        """
        deadline = time.monotonic() + WHOLE_SECONDS
        body = b""
        try:
            with self._client.stream("GET", f"{self._url}{path}", params=dict(query)) as answer:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > BODY_BYTES or time.monotonic() > deadline:
                        raise errors.Unavailable("Prometheus: the answer is too long or too slow")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise errors.Unavailable(f"Prometheus: {type(error).__name__}") from None
        # The body of 400 and 422 explains the error in the query.
        if answer.status_code not in {httpx2.codes.OK, 400, 422}:
            raise errors.Denied(f"Prometheus: HTTP {answer.status_code}")
        return body


class Prometheus:
    """The HTTP API of https://prometheus.io/docs/prometheus/latest/querying/api/."""

    def __init__(self, get: Get) -> None:
        self._get = get

    def instant(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now.

        Raises:
            errors.OperatorError: it gives no answer, or refuses the expression.
        """
        found = self._ask("/api/v1/query", query=expr)
        return [(it["metric"], float(it["value"][1])) for it in found]

    def range(
        self, expr: str, *, start: float, end: float, step_seconds: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Labels and points of each series: seconds since 1970, and the value.

        Raises:
            errors.OperatorError: it gives no answer, or refuses the expression.
        """
        found = self._ask(
            "/api/v1/query_range",
            query=expr,
            start=f"{start:.3f}",
            end=f"{end:.3f}",
            step=f"{step_seconds:g}",
        )
        return [
            (it["metric"], [(float(at), float(value)) for at, value in it["values"]])
            for it in found
        ]

    def _ask(self, path: str, **query: str) -> list[dict[str, Any]]:
        raw = self._get(path, query)
        try:
            answer = json.loads(raw)
            if answer["status"] != "success":
                raise errors.Denied(f"Prometheus: {answer.get('error', 'no result')}")
            result: list[dict[str, Any]] = answer["data"]["result"]
        except (ValueError, KeyError, TypeError):
            raise errors.Unavailable("Prometheus: the answer is not JSON of its API") from None
        return result


def connect(api: client.KubeClient, address: str) -> Prometheus:
    """A Prometheus by `http(s)://HOST...`, or `NAMESPACE/SERVICE:PORT` through the API server.

    Raises:
        errors.Denied: the address has another form.
    """
    if address.startswith(("http://", "https://")):
        return Prometheus(Direct(address).get)
    namespace, slash, service = address.partition("/")
    if slash and namespace and ":" in service and "/" not in service:
        # Needs get on services/proxy.
        return Prometheus(
            lambda path, query: api.proxied(kinds.SERVICE, namespace, service, path, query=query)
        )
    raise errors.Denied(
        f"--prometheus: {address!r} is neither http(s)://HOST nor NAMESPACE/SERVICE:PORT"
    )
