"""A hostile tenant by the API server: `edit` in its own namespace, and nothing anywhere else.

What it writes is drawn from a seed and bounded in number, so that it is the operator that is tried
and not etcd.
"""

import base64
import json
import random
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, Final

import httpx2
import yaml

from embedding_contract import names
from tests.parts import hostile, reconciling
from tests.parts.kubectl import Kubectl, KubectlError

NAMESPACE: Final = "attacker"
ACCOUNT: Final = "tenant"
PODS: Final = 36
POLICIES: Final = 12
OBJECTS: Final = 40
DATA_BYTES: Final = 700_000
ANNOTATION_BYTES: Final = 250_000
_PAUSE_SECONDS: Final = 0.05

Object = dict[str, Any]


class Tenant:
    """One thread that writes as the tenant, and one that gives its pods addresses, as kubelet."""

    def __init__(self, asked: Kubectl, network: hostile.Network, *, seed: int, victim: Object):
        self._asked = asked
        self._network = network
        self._drawn = random.Random(seed)
        self._victim = victim
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._addresses: dict[str, str] = {}
        self.written = 0
        self.refused = 0

    def settle(self) -> None:
        """Make the namespace, and the right to do anything in it."""
        self._asked.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": NAMESPACE,
                    "labels": {names.LABEL_INJECTION: "enabled"},
                },
            }
        )
        reconciling.wait_for_default_account(self._asked, NAMESPACE)
        self._asked("create", "serviceaccount", ACCOUNT, "-n", NAMESPACE)
        self._asked(
            *("create", "rolebinding", ACCOUNT, "--clusterrole=edit", "-n", NAMESPACE),
            f"--serviceaccount={NAMESPACE}:{ACCOUNT}",
        )
        token = self._asked("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=4h")
        config = yaml.safe_load(self._asked.kubeconfig.read_text(encoding="utf-8"))
        server = config["clusters"][0]["cluster"]
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self._api = httpx2.Client(
            base_url=server["server"],
            verify=ssl.create_default_context(cadata=authority),
            headers={"Authorization": f"Bearer {token.strip()}"},
            trust_env=False,
            timeout=10,
        )

    def start(self) -> None:
        """Begin."""
        for run in (self._write_all_the_time, self._give_addresses):
            thread = threading.Thread(target=run, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def review(self, drawn: random.Random) -> bytes:
        """A forged admission review: about the victim's namespace, and events about its objects."""
        owner = {
            "apiVersion": drawn.choice(["apps/v1", names.API_VERSION, "x" * 300]),
            "kind": drawn.choice([names.KIND, "ReplicaSet", "Secret"]),
            "name": drawn.choice([self._victim["metadata"]["name"], f"x{drawn.random()}"]),
            "uid": drawn.choice([self._victim["metadata"]["uid"], str(drawn.random())]),
            "controller": True,
        }
        metadata: Object = {"name": "p", "ownerReferences": [owner]}
        if drawn.random() < 0.3:
            metadata["annotations"] = {"a": "x" * drawn.randrange(2_000_000)}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"hostNetwork": True, "containers": [{"name": "a", "image": "a"}]},
        }
        kind = {"group": "", "version": "v1", "kind": "Pod"}
        resource = {"group": "", "version": "v1", "resource": "pods"}
        request = {
            "uid": str(drawn.random()),
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": drawn.choice([self._victim["metadata"]["namespace"], NAMESPACE, "none"]),
            "operation": "CREATE",
            "userInfo": {"username": "system:admin", "groups": ["system:masters"]},
            "object": pod,
            "oldObject": None,
            "dryRun": False,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return json.dumps({**review, "request": request}).encode()

    # --- what it writes

    def _write_all_the_time(self) -> None:
        # With a policy for each, so that all pods are asked from the first second on.
        for number in range(POLICIES):
            self._policy(number)
        for number in range(PODS):
            self._pod(number)
        writes = [
            self._pod,
            self._policy,
            self._large_object,
            self._false_secret,
            self._remove,
        ]
        while not self._stopping.is_set():
            with suppress(httpx2.TransportError):
                self._drawn.choice(writes)()
            time.sleep(_PAUSE_SECONDS)

    def _pod(self, number: int | None = None) -> None:
        """A pod that says that it carries a sidecar of a policy, of its own or of the victim."""
        policy = "search"
        if number is not None:
            # The pods that answer in one way belong to several policies: one may be refused.
            policy = self._name("policy", POLICIES, (number + number // POLICIES) % POLICIES)
        elif self._drawn.random() < 0.8:
            policy = self._name("policy", POLICIES)
        labels = {"app": "search", names.LABEL_INJECTED: policy, names.LABEL_POLICY: policy}
        container = {"name": "app", "image": "app:1"}
        sidecar = {"name": names.CONTAINER, "image": "x", "restartPolicy": "Always"}
        self._create(
            "/api/v1/namespaces/attacker/pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": self._name("pod", PODS, number),
                    "labels": labels,
                    "annotations": {names.ANNOTATION_SIDECAR_HASH: "0" * 16},
                },
                "spec": {"initContainers": [sidecar], "containers": [container]},
            },
        )

    def _policy(self, number: int | None = None) -> None:
        drawn = self._drawn
        metadata: Object = {"name": self._name("policy", POLICIES, number)}
        if drawn.random() < 0.3:
            metadata["annotations"] = {"a": "x" * ANNOTATION_BYTES}
        metadata.setdefault("annotations", {})[names.ANNOTATION_REFRESH] = str(drawn.random())
        secret = drawn.choice(["embedding-search", "theirs", names.owned_secret("policy-1")])
        reference = {"secretKeyRef": {"name": secret, "key": "provider-main"}}
        base_url = drawn.choice(["http://127.0.0.1:9/v1", "https://169.254.169.254/v1"])
        provider = {"name": "main", "type": "OpenAICompatible", "model": "m", "baseURL": base_url}
        spec: Object = {
            "podSelector": {},
            "providers": [{**provider, "apiKey": reference}],
            "cache": {"redis": reference, "shared": "search"},
            "secrets": [
                {"name": f"s{number}", "vault": {"mount": "secret", "path": "victim/keys"}}
                for number in range(drawn.randrange(16))
            ],
        }
        if number is None and drawn.random() < 0.3:
            other = {**provider, "name": "other", "model": "other"}
            spec["providers"].append(other)  # of another space: refused
        self._create(
            f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}",
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": metadata,
                "spec": spec,
            },
        )

    def _large_object(self) -> None:
        """A ConfigMap that looks like the operator's own, of the victim's policy even."""
        metadata = self._ours(self._name("large", OBJECTS))
        data = {"document.json": "x" * self._drawn.randrange(DATA_BYTES)}
        if self._drawn.random() < 0.5:
            metadata["annotations"] = {"a": "x" * ANNOTATION_BYTES}
            data = {}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self._create(f"/api/v1/namespaces/{NAMESPACE}/configmaps", made)

    def _false_secret(self) -> None:
        name = self._drawn.choice(["embedding-search", "theirs", self._name("secret", OBJECTS)])
        made = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self._ours(name),
            "stringData": {"provider-main": "not-the-victims", "x": "x" * 100_000},
        }
        self._create(f"/api/v1/namespaces/{NAMESPACE}/secrets", made)

    def _remove(self) -> None:
        core = f"/api/v1/namespaces/{NAMESPACE}"
        own = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}"
        path = self._drawn.choice(
            [
                f"{core}/pods/{self._name('pod', PODS)}",
                f"{core}/configmaps/{self._name('large', OBJECTS)}",
                f"{core}/secrets/{self._name('secret', OBJECTS)}",
                f"{own}/{self._name('policy', POLICIES)}",
            ]
        )
        self._call("DELETE", path, {"gracePeriodSeconds": 0})

    def _ours(self, name: str) -> Object:
        """Labels and owner as the operator writes them."""
        victim = self._victim["metadata"]
        owner = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": victim["name"],
            "uid": self._drawn.choice([victim["uid"], str(self._drawn.random())]),
            "controller": True,
        }
        labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_POLICY: victim["name"]}
        return {"name": name, "labels": labels, "ownerReferences": [owner]}

    def _name(self, kind: str, most: int, number: int | None = None) -> str:
        return f"{kind}-{self._drawn.randrange(most) if number is None else number}"

    def _create(self, path: str, body: Object) -> None:
        self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Object) -> None:
        if self._api.request(method, path, json=body).is_success:
            self.written += 1
        else:
            self.refused += 1  # there already, gone already, or not admitted

    # --- what its node does

    def _give_addresses(self) -> None:
        while not self._stopping.wait(0.5):
            with suppress(KubectlError):
                for pod in self._asked.get("pods", "-n", NAMESPACE)["items"]:
                    if not pod["status"].get("podIP"):
                        self._run(pod["metadata"]["name"])

    def _run(self, name: str) -> None:
        number = 10 + int(name.rpartition("-")[2])
        if name not in self._addresses:
            self._addresses[name] = self._network.hostile(number)
        patch = json.dumps(running(self._addresses[name]))
        self._asked(
            *("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge"),
            *("-p", patch),
        )


def running(address: str) -> Object:
    """The status of a pod whose sidecar runs."""
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {"name": names.CONTAINER, "image": "x", "imageID": "x", "restartCount": 0}
    started = {**container, "started": True, "ready": True, "state": state}
    return {
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "initContainerStatuses": [started],
        }
    }
