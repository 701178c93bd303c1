"""A registry of container images of the project's own, as CNCF's distribution serves it."""

import json
from pathlib import Path
from typing import Any, Final

from dev import cluster
from tests.parts import daemons

LOGIN: Final = "puller:a-password-of-tests"
# Made by bcrypt of the password above, with the fewest rounds that a client waits for each time.
_HTPASSWD: Final = "puller:$2b$05$yCYlLjXnAc1aYMVj61HCWOM.KiPfg5G6.Psyd3/u7KGiae4x/2tnm\n"


class Registry:
    """One registry without TLS at `host`; `private` wants `LOGIN` for everything."""

    def __init__(self, folder: Path, *, host: str, port: int, private: bool = False) -> None:
        self.address = f"{host}:{port}"
        self._daemons = daemons.Daemons(folder)
        self._host, self._port = host, port
        self._private = private

    def start(self) -> None:
        """Serve from an empty folder."""
        folder = self._daemons.folder
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
            "http": {"addr": self.address},
        }
        if self._private:
            logins = folder / "htpasswd"
            logins.write_text(_HTPASSWD, encoding="utf-8")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(logins)}}
        file = folder / "registry.json"  # JSON is YAML
        file.write_text(json.dumps(config), encoding="utf-8")
        self._daemons.start(
            "registry",
            [cluster.artifact("registry"), "serve", file],
            ready=daemons.answers(self._host, self._port),
            environment={"OTEL_TRACES_EXPORTER": "none"},
        )

    def stop(self) -> None:
        """End it."""
        self._daemons.stop()

    def pull_secret(self, name: str, namespace: str) -> dict[str, Any]:
        """The Secret of a Kubernetes that may pull from it."""
        user, _, password = LOGIN.partition(":")
        logins = {"auths": {self.address: {"username": user, "password": password}}}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {".dockerconfigjson": json.dumps(logins)},
        }
