"""The few calls to the API server that bringing a cluster up needs."""

import base64
import json
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FIELD_MANAGER = "throwaway-cluster"
TIMEOUT_SECONDS = 5


class Api:
    """An API server, as the user of a kubeconfig that ``certificates`` wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server: str = cluster["server"]
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
            urllib.error.URLError: the server refused it or is not there.
        """
        request = urllib.request.Request(
            f"{self._server}{path}?fieldManager={FIELD_MANAGER}&force=true",
            data=json.dumps(document).encode(),
            method="PATCH",
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        with self._open(request) as response:
            response.read()

    def _ask(self, path: str) -> bytes | None:
        try:
            with self._open(urllib.request.Request(self._server + path)) as response:
                return bytes(response.read())
        except (urllib.error.URLError, OSError):
            return None  # it starts, and answers not at all or with an error

    def _open(self, request: urllib.request.Request) -> Any:
        # Without a proxy, whatever the environment says: the server is this machine.
        handlers = urllib.request.HTTPSHandler(context=self._tls)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handlers)
        return opener.open(request, timeout=TIMEOUT_SECONDS)
