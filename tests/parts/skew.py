"""An operator and sidecars of different releases, each a process of its own, on one API server.

What kubelet would do is done here: it keeps the volumes of a pod as ConfigMap and Secret are, and
gives the pod an address, at which its sidecar answers the operator.
"""

import base64
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from embedding_contract import fingerprint, names
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from tests.parts import reconciling, sidecar
from tests.parts.installation import wait
from tests.parts.kubectl import Kubectl
from tests.parts.operating import Operator
from tests.parts.relay import Relay
from tests.parts.release_before import Release
from tests.parts.volumes import Volume

SYNC_SECONDS = 0.1
POLICY = "search"
_addresses = itertools.count(1)


def commands(release: Release | None) -> tuple[list[str | Path], list[str | Path], dict[str, str]]:
    """The operator's and the sidecar's command of a release, and their environment.

    None stands for this tree.
    """
    if release is not None:
        programs = (release.program(f"embedding-{it}") for it in ("operator", "sidecar"))
        return next(programs), next(programs), release.environment
    python: list[str | Path] = [sys.executable, "-m"]
    return [*python, "embedding_operator"], [*python, "embedding_sidecar"], {}


@contextmanager
def operator(
    folder: Path,
    kubeconfig: Path,
    release: Release | None,
    **settings: str,
) -> Iterator[Operator]:
    """The operator of a release. It looks at every policy each second."""
    made = Operator(folder, kubeconfig, None)
    command, _, environment = commands(release)
    made.program = [*map(str, command), "run"]
    made.environment |= {**environment, "RESYNC_SECONDS": "1", **settings}
    if release is not None:
        made.environment["KUBECONFIG"] = str(kubeconfig)  # its chart's rights are others
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Pod:
    """A pod with a sidecar of a release, which runs as a process of this machine."""

    def __init__(
        self,
        objects: KubeClient,
        folder: Path,
        *,
        namespace: str,
        release: Release | None,
        environment: Mapping[str, str],
    ) -> None:
        folder.mkdir()
        self._objects = objects
        self._namespace = namespace
        self._ended = threading.Event()
        number = next(_addresses)
        address = f"127.{10 + os.getpid() % 240}.{number // 250}.{number % 250 + 1}"
        self.name = f"pod-{number}"
        uid = self._create(address)
        self._document = Volume(folder / "policy")
        self._secrets = Volume(folder / "secrets")
        _, program, own = commands(release)
        self.sidecar = sidecar.Sidecar(
            *("--document", self._document.folder / names.DOCUMENT_KEY),
            *("--secrets", self._secrets.folder),
            environment={names.ENV_POD_UID: uid, **own, **environment},
            log=folder / "log",
            program=program,
        )
        self._relay = Relay(self.sidecar.admin_port, at=(address, names.ADMIN_PORT))
        self._kubelet = threading.Thread(target=self._sync, daemon=True)
        self._kubelet.start()

    def close(self) -> None:
        """End all of it."""
        self._ended.set()
        self._kubelet.join()
        self._relay.close()
        self.sidecar.stop()

    def _create(self, address: str) -> str:
        bare = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self._namespace, "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        }
        injected = reconciling.injected(bare, policy=POLICY)
        made = self._objects.create(kinds.POD, self._namespace, injected)
        started = {
            "name": names.CONTAINER,
            "image": "sidecar:1",
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "started": True,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "initContainerStatuses": [started],
        }
        path = kinds.POD.path(self._namespace, self.name, "status")
        content = "application/merge-patch+json"
        self._objects._call("PATCH", path, {"status": status}, content=content)
        uid: str = made["metadata"]["uid"]
        return uid

    def _sync(self) -> None:
        held: list[Mapping[str, bytes]] = [{}, {}]
        sources = (
            (kinds.SECRET, names.owned_secret(POLICY), self._secrets),
            (kinds.CONFIG_MAP, names.document_configmap(POLICY), self._document),
        )
        while not self._ended.wait(SYNC_SECONDS):
            for number, (kind, name, volume) in enumerate(sources):
                found = self._objects.get(kind, self._namespace, name) or {}
                data = found.get("data") or {}
                decode: Callable[[str], bytes] = (
                    base64.b64decode if kind is kinds.SECRET else str.encode
                )
                entries = {key: decode(value) for key, value in data.items()}
                if entries and entries != held[number]:
                    held[number] = entries
                    volume.hold(entries)


class Shop:
    """A namespace with a policy and its pods."""

    def __init__(self, kubectl: Kubectl, namespace: str, folder: Path, stack: ExitStack) -> None:
        self._kubectl = kubectl
        self._objects = reconciling.connect(kubectl.kubeconfig)
        self.namespace = namespace
        self._folder = folder
        self._stack = stack
        reconciling.wait_for_default_account(kubectl, namespace)

    def keys(self, **values: str) -> None:
        """The Secret that policies name."""
        self._kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "keys", "namespace": self.namespace},
                "stringData": values,
            }
        )

    def apply(self, *, provider: Mapping[str, Any], **spec: Any) -> None:
        """A policy of one provider."""
        key = {"secretKeyRef": {"name": "keys", "key": "openai"}}
        first = {"name": "openai", "type": "OpenAI", "model": "text-embedding-3-small"}
        self._kubectl.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": POLICY, "namespace": self.namespace},
                "spec": {
                    "podSelector": {"matchLabels": {"app": "x"}},
                    "providers": [{**first, "apiKey": key, **provider}],
                    **spec,
                },
            }
        )

    def pod(self, release: Release | None, **environment: str) -> Pod:
        """A running pod with the sidecar of a release."""
        folder = self._folder / f"pod-{len(list(self._folder.glob('pod-*')))}"
        made = Pod(
            self._objects,
            folder,
            namespace=self.namespace,
            release=release,
            environment=environment,
        )
        self._stack.callback(made.close)
        made.sidecar.wait()
        return made

    def status(self) -> dict[str, Any]:
        """The policy's status; empty before there is one."""
        found = self._objects.get(kinds.POLICY, self.namespace, POLICY) or {}
        status: dict[str, Any] = found.get("status") or {}
        generation = found.get("metadata", {}).get("generation")
        return status if status.get("observedGeneration") == generation else {}

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition of the policy as it is now; empty before there is one."""
        found = (it for it in self.status().get("conditions", ()) if it["type"] == kind)
        return next(found, {})

    def wait_for(self, kind: str, status: str, reason: str, *, words: str = "") -> str:
        """Until a condition has this status and reason, and these words; its message."""

        def holds() -> bool:
            found = self.condition(kind)
            same = (found.get("status"), found.get("reason")) == (status, reason)
            return same and words in found["message"]

        wait(holds, f"{kind} {status} {reason}", timeout_seconds=45, last=self._told)
        message: str = self.condition(kind)["message"]
        return message

    def wait_for_document(self, pod: Pod) -> None:
        """Until a pod's sidecar obeys what stands in the cluster."""

        def obeys() -> bool:
            wanted = self.status().get("document", {}).get("fingerprint")
            # Before the first status there may be no token yet.
            return wanted is not None and self._config(pod).get("document_fingerprint") == wanted

        wait(obeys, f"the document in {pod.name}", last=self._told)

    def rotate(self, pods: Iterable[Pod], value: str) -> None:
        """Put another key where the policy's points, and wait until all sidecars have it."""
        self.keys(openai=value)
        owned = names.owned_secret(POLICY)

        def stands() -> bool:
            found = self._objects.get(kinds.SECRET, self.namespace, owned) or {}
            data = found.get("data") or {}
            held = base64.b64decode(data.get(names.secret_provider_key("openai"), ""))
            return held.decode() == value

        wait(stands, "the new key in the owned Secret", last=self._told)
        found = self._objects.get(kinds.SECRET, self.namespace, owned)
        assert found is not None
        entries = {key: base64.b64decode(it) for key, it in found["data"].items()}
        wanted = fingerprint.of_secrets(entries, token=entries[names.SECRET_API_TOKEN])

        def has_it(pod: Pod) -> bool:
            return self._config(pod).get("secrets_fingerprint") == wanted

        for it in pods:
            wait(partial(has_it, it), f"the new key in {it.name}", last=self._told)

    def _config(self, pod: Pod) -> dict[str, Any]:
        """What a sidecar reports to a bearer of the token; empty without a document."""
        proof = {"Authorization": f"Bearer {self.token()}"}
        answer = pod.sidecar.admin.get(names.PATH_CONFIG, headers=proof)
        found: dict[str, Any] = answer.json() if answer.is_success else {}
        return found

    def token(self) -> str:
        """The policy's API token."""
        found = self._objects.get(kinds.SECRET, self.namespace, names.owned_secret(POLICY))
        assert found is not None
        return base64.b64decode(found["data"][names.SECRET_API_TOKEN]).decode()

    def _told(self) -> str:
        logs = (it.read_text(encoding="utf-8")[-2000:] for it in self._folder.glob("pod-*/log"))
        return json.dumps(self.status(), indent=1) + "\n".join(logs)
