"""One connection to an API server as the user of a kubeconfig, with nothing between."""

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

Object = dict[str, Any]
APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
MERGE: Final = "application/merge-patch+json"


class RefusedError(AssertionError):
    """The API server refuses a request; the text is its reason."""


class Direct:
    """Asks one request after another; not for several threads. The user has a certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as file:
            for part in ("certificate", "key"):
                file.write(base64.b64decode(user[f"client-{part}-data"]))
            file.flush()
            context.load_cert_chain(file.name)
        address = urllib.parse.urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(address.netloc, context=context)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
    ) -> tuple[int, Object]:
        """Status and body of the answer."""
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {"Content-Type": content})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def done(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
    ) -> Object:
        """The body of an answer that is no refusal.

        Raises:
            RefusedError: it is one.
        """
        status, answer = self.ask(method, path, body, content=content)
        if status >= HTTPStatus.BAD_REQUEST:
            raise RefusedError(f"{method} {path}: {status} {answer.get('message', '')}")
        return answer

    def lines(self, path: str) -> Iterator[Object]:
        """Each line of an answer that goes on, such as a watch's; ends when it is closed.

        The answer has begun when this returns.

        Raises:
            RefusedError: the API server refuses it.
        """
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise RefusedError(answer.read().decode())
        return map(json.loads, iter(answer.readline, b""))

    def cut(self) -> None:
        """End the connection from another thread.

        Reading it ends there: silently, with an OSError, or with an HTTPException within a chunk.
        """
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)  # SHUT_RDWR

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
