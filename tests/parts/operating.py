"""The operator as a process of its own, against an API server and a Vault on this machine."""

import os
import sys
import urllib.request
from pathlib import Path

import yaml

from tests.parts import daemons, ports, shipped_roles, vault
from tests.parts.api_proxy import ApiProxy
from tests.parts.kubectl import Kubectl

ROOT = Path(__file__).parents[2]


class Operator:
    """`embedding-operator run` under the chart's roles, which `kubeconfig` may give it.

    It resyncs so rarely that only what it watches brings news.
    """

    def __init__(self, folder: Path, kubeconfig: Path, server: vault.Vault | None) -> None:
        self.program = [sys.executable, "-m", "embedding_operator", "run"]
        self._daemons = daemons.Daemons(folder)
        self._health_port, metrics_port, webhook_port = (ports.free() for _ in range(3))
        self._metrics_port = metrics_port
        allowed = [{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}]
        rules = folder / "allowed.yaml"
        rules.write_text(yaml.safe_dump(allowed), encoding="utf-8")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(shipped_roles.kubeconfig(Kubectl(kubeconfig), folder)),
            "WEBHOOK_CONFIGURATION": shipped_roles.CONFIGURATION,
            "RESYNC_SECONDS": "3600",
            # One at a time; the Lease of one that was killed would keep the next one for 15 s.
            "LEADER_ELECTION": "false",
            "HEALTH_PORT": str(self._health_port),
            "METRICS_PORT": str(metrics_port),
            "WEBHOOK_PORT": str(webhook_port),
            "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
        }
        if server is not None:
            self.environment |= {
                "VAULT_ADDR": server.address,
                "VAULT_ALLOW_INSECURE_HTTP": "true",
                "VAULT_AUTH_METHOD": "token",
                "VAULT_TOKEN_FILE": str(server.token_file),
                "VAULT_POLL_SECONDS": "1",
                "VAULT_GUARD_FILE": str(rules),
            }

    def leads_through(self, proxy: ApiProxy) -> None:
        """Have it speak to the API server through a proxy."""
        direct = Path(self.environment["KUBECONFIG"])
        self.environment["KUBECONFIG"] = str(proxy.kubeconfig(direct))

    def start(self) -> None:
        """Start it and wait until it watches."""
        ready, environment = self.healthy, self.environment
        self._daemons.start("operator", self.program, ready=ready, environment=environment)

    def stop(self) -> None:
        """End it without a word, as a node that fails would."""
        self._daemons.stop()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._daemons.pid("operator"), number)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._daemons.pid("operator")

    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._daemons.is_running("operator")

    def open_ports(self) -> tuple[int, int]:
        """Those that any pod may reach: for kubelet, and for Prometheus."""
        return self._health_port, self._metrics_port

    def health_url(self, path: str) -> str:
        """Where kubelet would ask."""
        return f"http://127.0.0.1:{self._health_port}{path}"

    def healthy(self) -> bool:
        """What the kubelet's probe sees."""
        try:
            self._get(self._health_port, "/healthz")
        except OSError:
            return False
        return True

    def metrics(self) -> str:
        """What Prometheus sees."""
        return self._get(self._metrics_port, "/metrics")

    @property
    def metrics_address(self) -> str:
        """Where Prometheus finds its metrics, as host and port."""
        return f"127.0.0.1:{self._metrics_port}"

    def log(self) -> str:
        """All it has said."""
        return self._daemons.log("operator").read_text(encoding="utf-8")

    @staticmethod
    def _get(port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            text: str = answer.read().decode()
            return text
