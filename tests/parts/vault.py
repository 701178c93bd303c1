"""A real OpenBao for tests: in memory, with TLS if wanted; it can be sealed and stopped."""

import base64
import re
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import hvac
import yaml
from hvac.exceptions import InvalidPath, InvalidRequest, VaultError
from requests import RequestException

from tests.parts import daemons, kubectl, ports, secrecy, sidecar


def mount_second_version(client: hvac.Client, path: str) -> None:
    """A KV v2 engine at this mount, once it serves."""
    client.sys.enable_secrets_engine("kv", path=path, options={"version": "2"})

    def serves() -> bool:
        try:
            client.secrets.kv.v2.read_secret_metadata("nothing", mount_point=path)
        except InvalidRequest:
            # It upgrades itself for a moment after it was mounted, and answers nothing.
            return False
        except InvalidPath:
            pass  # Nothing is there, and it says so.
        return True

    sidecar.wait_until(serves)


REVIEWER_TIME = "4h"
"""The life of the token by which Kubernetes auth reviews others; longer than any campaign."""


class Vault:
    """One server. What it holds is gone when it stops."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self.folder = folder
        self.token_file = folder / "root-token"
        self.ca_file = folder / "tls" / "vault-ca.pem" if tls else None
        self._port = ports.free()
        self._daemons = daemons.Daemons(folder)

    @property
    def address(self) -> str:
        """Its URL."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, unsealed and with the KV v2 engine at secret/."""
        token = secrets.token_urlsafe(16)
        secrecy.WRITTEN.add(token)
        self.token_file.write_text(token, encoding="utf-8")
        command: list[str | Path] = [Path(sys.executable).parent / "bao", "server", "-dev"]
        command += [f"-dev-listen-address=127.0.0.1:{self._port}", "-dev-no-store-token"]
        command += [f"-dev-root-token-id={self.token_file.read_text(encoding='utf-8')}"]
        if self.ca_file is not None:
            self.ca_file.parent.mkdir(exist_ok=True)
            command += ["-dev-tls", f"-dev-tls-cert-dir={self.ca_file.parent}"]
        # Its last word at the start, when secret/ is mounted.
        self._daemons.start(
            "vault", command, ready=lambda: "Development mode should NOT be used" in self._said()
        )

    def stop(self) -> None:
        """End it: connections are refused."""
        # Whatever else was written, by whatever client; a sealed one tells nobody.
        with suppress(VaultError, RequestException):
            secrecy.WRITTEN.add(*secrecy.in_vault(self.client()))
        self._daemons.stop()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._daemons.pid("vault")

    def client(self) -> hvac.Client:
        """An administrator's client."""
        return hvac.Client(
            self.address,
            token=self.token_file.read_text(encoding="utf-8"),
            verify=str(self.ca_file) if self.ca_file else True,
        )

    def write(self, path: str, **values: object) -> None:
        """A new version of a path of secret/."""
        secrecy.WRITTEN.add(*map(str, values.values()))
        self.client().secrets.kv.v2.create_or_update_secret(path, values, mount_point="secret")

    def delete_newest(self, path: str) -> None:
        """Delete the newest version of a path; older ones stay."""
        self.client().secrets.kv.v2.delete_latest_version_of_secret(path, mount_point="secret")

    def seal(self) -> None:
        """Every request is answered 503 from now on."""
        self.client().sys.seal()

    def unseal(self) -> None:
        """End that, with the key it printed when it started."""
        self.client().sys.submit_unseal_key(re.findall(r"Unseal Key: (\S+)", self._said())[-1])

    def telemetry(self) -> dict[str, float]:
        """Its own counters, as it shows them to Prometheus; series with labels are left out."""
        request = urllib.request.Request(
            f"{self.address}/v1/sys/metrics?format=prometheus",
            headers={"X-Vault-Token": self.token_file.read_text(encoding="utf-8")},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        series = (line.rpartition(" ") for line in lines if line[:1] not in {"#", ""})
        return {name: float(value) for name, _, value in series if "{" not in name}

    def trust(self, asked: kubectl.Kubectl, *, namespace: str) -> None:
        """Kubernetes auth with a role `reader`: a namespace's embedding-vault reads its own paths.

        Tokens are reviewed as the namespace's ServiceAccount `reviewer`.
        """
        asked.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "reviewer", "namespace": namespace},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"reviewer-{namespace}"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:auth-delegator",
                },
                "subjects": [
                    {"kind": "ServiceAccount", "name": "reviewer", "namespace": namespace}
                ],
            },
        )
        server = yaml.safe_load(asked.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]
        client = self.client()
        if "kubernetes/" not in client.sys.list_auth_methods():
            client.sys.enable_auth_method("kubernetes")
        client.auth.kubernetes.configure(
            kubernetes_host=server["cluster"]["server"],
            kubernetes_ca_cert=base64.b64decode(
                server["cluster"]["certificate-authority-data"]
            ).decode(),
            token_reviewer_jwt=asked(
                "create", "token", "reviewer", "-n", namespace, f"--duration={REVIEWER_TIME}"
            ).strip(),
        )
        client.sys.create_or_update_policy(
            "reader",
            f'path "secret/data/{namespace}/*" {{ capabilities = ["read"] }}\n'
            f'path "secret/metadata/{namespace}/*" {{ capabilities = ["read"] }}',
        )
        client.auth.kubernetes.create_role(
            "reader",
            bound_service_account_names=["embedding-vault"],
            bound_service_account_namespaces=[namespace],
            audience="vault",
            policies=["reader"],
            ttl="1h",
        )

    def _said(self) -> str:
        log = self._daemons.log("vault")
        return log.read_text(encoding="utf-8") if log.exists() else ""


_DURABLE = """
storage "raft" {{
  path = "{folder}/data"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
"""


class Durable(Vault):
    """One server that keeps what it holds on disk; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "data").mkdir()
        self._configuration = folder / "bao.hcl"
        text = _DURABLE.format(folder=folder, port=self._port, cluster_port=ports.free())
        self._configuration.write_text(text, encoding="utf-8")
        self._unseal_key = ""

    def start(self) -> None:
        """Start it on what it kept, unsealed and with the KV v2 engine at secret/."""
        program = Path(sys.executable).parent / "bao"
        self._daemons.start(
            "vault",
            [program, "server", f"-config={self._configuration}"],
            ready=daemons.answers("127.0.0.1", self._port),
        )
        is_new = not self._unseal_key
        if is_new:
            made = hvac.Client(self.address).sys.initialize(secret_shares=1, secret_threshold=1)
            (self._unseal_key,) = made["keys_base64"]
            secrecy.WRITTEN.add(made["root_token"], self._unseal_key)
            self.token_file.write_text(made["root_token"], encoding="utf-8")
        client = self.client()
        client.sys.submit_unseal_key(self._unseal_key)
        # A server alone elects itself for a second. Its health is a parsed body once it is active.
        sidecar.wait_until(lambda: isinstance(client.sys.read_health_status(method="GET"), dict))
        if is_new:
            mount_second_version(client, "secret")

    def kill(self) -> None:
        """End it without a word."""
        self._daemons.stop()


@contextmanager
def running(folder: Path) -> Iterator[Vault]:
    """A server for a while."""
    started = Vault(folder)
    started.start()
    try:
        yield started
    finally:
        started.stop()
