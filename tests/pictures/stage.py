"""A cluster to take pictures of: a real API server and operator, real sidecars as its pods.

There is no node, so the sidecars are processes of this machine that read what the operator wrote,
and each pod's address leads to one. Namespace shop has a policy in which all is well and one with
troubles; namespace support has one whose key is missing.
"""

import base64
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cluster
from embedding_contract import names
from tests.fakes import provider
from tests.parts import addresses, charted, kubectl, monitored, reconciling

ROOT: Final = Path(__file__).parents[2]
CRD: Final = ROOT / "crds" / "embeddingpolicies.yaml"
SECONDS: Final = 60
_ADDRESS: Final = "10.251.84.{}"
_LABEL: Final = "embeddings"
_KEYS: Final = "provider-keys"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything, running."""

    kubeconfig: Path
    run: monitored.Run


@contextmanager
def standing(folder: Path) -> Iterator[Stage]:
    """Start it all, and remove it afterwards; needs root, as pods get addresses of their own."""
    with ExitStack() as stack:
        name = f"pictures-{os.getpid()}"
        up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
        stack.callback(cluster.down, name)
        asked = kubectl.Kubectl(up.kubeconfig)
        charted.install(asked, {"resyncSeconds": 5})
        asked.wait_until_served(CRD)
        for namespace in (monitored.NAMESPACE, "support"):
            asked("create", "namespace", namespace)
            asked("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
            reconciling.wait_for_default_account(asked, namespace)
        # Before there is a policy, so that it has no sidecar.
        asked.apply(_pod("catalog-59f4b-early", policy="catalog"))
        operator = charted.Operator(asked, folder / "operator")
        operator.start(RESYNC_SECONDS="5")
        stack.callback(operator.stop)

        def mount(policy: str, parts: monitored.Parts) -> Sequence[str | Path]:
            asked.apply(_secret(parts), _policy(policy, parts), _assistant())
            return _mounted(asked, policy, folder / "pods" / policy)

        run = stack.enter_context(monitored.running(folder / "run", mount=mount))
        ports = [it.admin_port for it in (*run.search, run.catalog)]
        for number, (pod, port) in enumerate(zip(monitored.PODS, ports, strict=True), 1):
            address = _ADDRESS.format(number)
            stack.enter_context(addresses.leading(address, to_port=port))
            _create(asked, pod, address=address)
        yield Stage(kubeconfig=up.kubeconfig, run=run)


def _mounted(asked: kubectl.Kubectl, policy: str, folder: Path) -> Sequence[str | Path]:
    """The operator's document and Secret as files, as kubelet mounts them."""
    where = ("-n", monitored.NAMESPACE)
    deadline = time.monotonic() + SECONDS
    while True:
        found = asked.get("configmap,secret", *where)["items"]
        data = {it["metadata"]["name"]: it.get("data") or {} for it in found}
        document = data.get(names.document_configmap(policy))
        secret = data.get(names.owned_secret(policy))
        if document and secret:
            break
        if time.monotonic() > deadline:
            raise AssertionError(f"the operator wrote nothing for {policy} in {SECONDS} s")
        time.sleep(0.2)
    values = {key: base64.b64decode(value).decode() for key, value in secret.items()}
    return monitored.files(folder, document[names.DOCUMENT_KEY], values)


def _create(asked: kubectl.Kubectl, name: str, *, address: str) -> None:
    """A pod as the webhook would have made it, running as a kubelet would say."""
    policy = monitored.policy_of(name)
    asked.apply(reconciling.injected(_pod(name, policy=policy), policy=policy))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    running = {"running": {"startedAt": now}}
    common = {"imageID": "", "ready": True, "restartCount": 0, "started": True, "state": running}
    status = {
        "phase": "Running",
        "podIP": address,
        "initContainerStatuses": [{"name": names.CONTAINER, "image": "sidecar:1", **common}],
        "containerStatuses": [{"name": "app", "image": "app:1", **common}],
    }
    asked(
        *("patch", "pod", name, "-n", monitored.NAMESPACE, "--subresource=status"),
        *("--type=merge", "-p", json.dumps({"status": status})),
    )


def _pod(name: str, *, policy: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": monitored.NAMESPACE,
            "labels": {_LABEL: policy},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }


def _secret(parts: monitored.Parts) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _KEYS, "namespace": monitored.NAMESPACE},
        "stringData": {"KEY": provider.KEY, "REDIS_URL": parts.redis_url},
    }


def _policy(name: str, parts: monitored.Parts) -> Object:
    key = {"secretKeyRef": {"name": _KEYS, "key": "KEY"}}
    openai = {
        "name": "openai",
        "type": "OpenAI",
        "model": "text-embedding-3-small",
        "baseURL": parts.openai_url,
        "pricePerMillionTokens": "0.02",
        "apiKey": key,
    }
    voyage = {
        "name": "voyage",
        "type": "Voyage",
        "model": "voyage-3.5",
        "baseURL": parts.voyage_url,
        "pricePerMillionTokens": "0.06",
        "apiKey": key,
    }
    calls = {"search": monitored.SEARCH_CALLS, "catalog": monitored.CATALOG_CALLS}
    return _made(
        name,
        monitored.NAMESPACE,
        providers=[openai, voyage] if name == "search" else [voyage],
        failover={"acrossSpaces": name == "search"},
        quota={"daily": {"requests": calls[name]}},
        cache={"redis": {"secretKeyRef": {"name": _KEYS, "key": "REDIS_URL"}}},
    )


def _assistant() -> Object:
    key = {"secretKeyRef": {"name": "openai", "key": "API_KEY"}}
    only = {"name": "openai", "type": "OpenAI", "model": "text-embedding-3-large", "apiKey": key}
    return _made("assistant", "support", providers=[only])


def _made(name: str, namespace: str, **spec: Any) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {_LABEL: name}}, **spec},
    }
