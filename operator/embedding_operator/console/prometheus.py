"""Queries to a Prometheus, by its URL or through the API server's proxy of its Service."""

import json
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

import httpx2

from embedding_operator import errors
from embedding_operator.kube import client, kinds

TIMEOUT_SECONDS: Final = 5.0
WHOLE_SECONDS: Final = 15.0
BODY_BYTES: Final = 4 * 1024 * 1024


class Source(Protocol):
    """A way to a Prometheus."""

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The body of an answer; raises errors.OperatorError without one."""


class Direct:
    """A Prometheus at a URL, which may have a path."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.Client(timeout=TIMEOUT_SECONDS)

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """See `Source`."""
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


class Proxied:
    """A Prometheus behind a Service, `NAMESPACE/SERVICE:PORT`; needs get on services/proxy."""

    def __init__(self, api: client.KubeClient, address: str) -> None:
        self._api = api
        self._namespace, _, self._service = address.partition("/")

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """See `Source`."""
        return self._api.proxied(kinds.SERVICE, self._namespace, self._service, path, query=query)


class Prometheus:
    """The HTTP API of https://prometheus.io/docs/prometheus/latest/querying/api/."""

    def __init__(self, source: Source) -> None:
        self._source = source

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
        raw = self._source.get(path, query)
        try:
            answer = json.loads(raw)
            if answer["status"] != "success":
                raise errors.Denied(f"Prometheus: {answer.get('error', 'no result')}")
            result: list[dict[str, Any]] = answer["data"]["result"]
        except (ValueError, KeyError, TypeError):
            raise errors.Unavailable("Prometheus: the answer is not JSON of its API") from None
        return result


def connect(api: client.KubeClient, address: str) -> Prometheus:
    """A Prometheus by its address.

    Args:
        api: the API server, for its proxy of a Service.
        address: `http(s)://HOST...`, or `NAMESPACE/SERVICE:PORT`.

    Raises:
        errors.Denied: the address has another form.
    """
    if address.startswith(("http://", "https://")):
        return Prometheus(Direct(address))
    namespace, slash, service = address.partition("/")
    if slash and namespace and ":" in service and "/" not in service:
        return Prometheus(Proxied(api, address))
    raise errors.Denied(
        f"--prometheus: {address!r} is neither http(s)://HOST nor NAMESPACE/SERVICE:PORT"
    )
