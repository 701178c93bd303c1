"""The few calls to the API server that bringing a cluster up needs."""

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev.cluster.errors import Failure

FIELD_MANAGER = "throwaway-cluster"
TIMEOUT_SECONDS = 5


class RefusedError(Failure):
    """The API server did not take an object; the text ends with what it said."""


class Api:
    """An API server, as the user of a kubeconfig that ``certificates`` wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server = urllib.parse.urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=authority)
        pem = b"".join(
            base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")
        )
        # OpenSSL reads a client's certificate from files only; mkstemp's are 0600.
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            self._tls.load_cert_chain(file.name)

    def ready(self) -> bool:
        """Whether the server says so."""
        return self._ask("/readyz") == b"ok"

    def exists(self, path: str) -> bool:
        """Whether there is an object at ``path``."""
        return self._ask(path) is not None

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at ``path``; None while it or the server is not there."""
        answer = self._ask(path)
        return None if answer is None else json.loads(answer)

    def apply(self, path: str, document: dict[str, Any]) -> None:
        """Server-side apply ``document`` at its own ``path``.

        Raises:
            RefusedError: the server said no.
            OSError: it is not there.
        """
        status, answer = self._call(
            "PATCH",
            f"{path}?fieldManager={FIELD_MANAGER}&force=true",
            body=json.dumps(document).encode(),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        if status not in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}:
            raise RefusedError(f"{path}: {status} {answer.decode(errors='replace')}")

    def _ask(self, path: str) -> bytes | None:
        try:
            status, answer = self._call("GET", path)
        except (OSError, http.client.HTTPException):
            return None  # it starts, and does not answer yet
        return answer if status == http.HTTPStatus.OK else None

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._server, context=self._tls, timeout=TIMEOUT_SECONDS
        )
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
