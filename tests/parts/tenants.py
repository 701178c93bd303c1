"""A person with some rights in one namespace, and what kubelet would mount for a sidecar there."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from embedding_contract import names
from embedding_operator.kube.kinds import Object
from embedding_sidecar.policy import policy_file
from tests.parts import kubectl

WRITE = ["get", "list", "watch", "create", "update", "patch", "delete"]
AUTHOR = (
    {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": WRITE},
    {
        "apiGroups": [""],
        "resources": ["pods", "pods/ephemeralcontainers", "configmaps"],
        "verbs": WRITE,
    },
)
"""Writes policies, pods and ConfigMaps; neither reads Secrets nor runs commands in pods."""
READER = ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},)


def account(
    asked: kubectl.Kubectl, folder: Path, *, namespace: str, name: str, rules: Sequence[Object]
) -> kubectl.Kubectl:
    """kubectl as a ServiceAccount with these rules of RBAC in one namespace."""
    api = "rbac.authorization.k8s.io"
    role = {"apiGroup": api, "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    metadata = {"name": name, "namespace": namespace}
    asked.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    )
    token = asked("create", "token", name, "-n", namespace).strip()
    config = yaml.safe_load(asked.kubeconfig.read_text("utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / f"{namespace}-{name}.kubeconfig"
    file.write_text(yaml.safe_dump(config), "utf-8")
    return kubectl.Kubectl(file)


class MountedPod:
    """The volumes of one pod's sidecar, filled from the API server, and the sidecar's reading."""

    def __init__(self, asked: kubectl.Kubectl, folder: Path, *, namespace: str, policy: str):
        self._asked = asked
        self._namespace = namespace
        self._policy = policy
        self._documents, self._secrets = folder / "documents", folder / "secrets"
        for made in (self._documents, self._secrets):
            made.mkdir(parents=True)
        self._follower = policy_file.Follower(
            path=self._documents / names.DOCUMENT_KEY, secrets=self._secrets
        )
        self.loaded: policy_file.Loaded | None = None

    @property
    def rejected(self) -> str:
        """The reason why the newest document is not obeyed."""
        return self._follower.rejected or ""

    def sync(self) -> "MountedPod":
        """Mount what is there now, and let the sidecar look at it."""
        document = self._data("configmap", names.document_configmap(self._policy))
        held = self._data("secret", names.owned_secret(self._policy))
        _fill(self._documents, {key: it.encode() for key, it in document.items()})
        _fill(self._secrets, {key: base64.b64decode(it) for key, it in held.items()})
        for _ in range(3):
            self.loaded = self._follower.poll() or self.loaded
        return self

    def sent(self, value: str) -> set[str]:
        """The addresses to which the sidecar would send a value of the Secret."""
        if self.loaded is None:
            return set()
        document, secrets = self.loaded.document, self.loaded.secrets
        urls = {
            it.base_url
            for it in document.providers
            if secrets.get(it.api_key_file or "", "") == value
        }
        return urls | {it for it in (document.network.https_proxy,) if urls and it}

    def ceilings(self) -> dict[str, Any]:
        """The calls of a day that each class allows, by its name."""
        found = self.loaded.document.classes if self.loaded is not None else ()
        return {it.name: it.quota.daily_requests for it in found}

    def _data(self, kind: str, name: str) -> dict[str, str]:
        found = json.loads(
            self._asked(
                "get", kind, name, "-n", self._namespace, "--ignore-not-found", "-o", "json"
            )
            or "{}"
        )
        data: dict[str, str] = found.get("data") or {}
        return data


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for there in folder.iterdir():
        if there.name not in files:
            there.unlink()
    for name, content in files.items():
        file = folder / name
        if not file.exists() or file.read_bytes() != content:
            fresh = folder / f"..{name}"
            fresh.write_bytes(content)
            fresh.rename(file)
