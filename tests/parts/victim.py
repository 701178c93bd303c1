"""A team that means no harm: a policy, a pod with a real sidecar, and an application that asks.

Its node is played: ConfigMap and Secret of the API server are brought into the sidecar's folders.
"""

import base64
import itertools
import json
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx2

from embedding_contract import document, names
from embedding_operator.kube import kinds
from tests.parts import daemons, hostile, ports, reconciling, sidecar, tenant
from tests.parts.installation import ROOT
from tests.parts.kubectl import Kubectl

NAMESPACE: Final = "victim"
KEY: Final = "sk-the-victims-own-key-4711"
MODEL: Final = "text-embedding-3-small"
PATIENCE_SECONDS: Final = 180.0
_PAUSE_SECONDS: Final = 0.05
_SYNC_SECONDS: Final = 0.5

Object = dict[str, Any]


class Victim:
    """All of it. `answers` are the statuses that its application got."""

    def __init__(self, asked: Kubectl, network: hostile.Network, folder: Path) -> None:
        self._asked = asked
        self._network = network
        self._folder = folder
        self.objects = reconciling.connect(asked.kubeconfig)
        self._redis = sidecar.Redis(_made(folder / "redis"))
        self._daemons = daemons.Daemons(folder / "provider")
        self._billed = folder / "billed.log"
        self._provider_port = ports.free()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._texts = itertools.count()
        self.answers: dict[int | str, int] = {}
        self.slowest_seconds = 0.0
        self.reconciled_seconds: list[float] = []
        self.requests = 1_000_000

    def settle(self) -> None:
        """Namespace, key and policy."""
        metadata = {"name": NAMESPACE, "labels": {names.LABEL_INJECTION: "enabled"}}
        self._asked.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        reconciling.wait_for_default_account(self._asked, NAMESPACE)
        self._asked(
            *("create", "secret", "generic", "keys", "-n", NAMESPACE),
            f"--from-literal=main={KEY}",
        )
        biller = [sys.executable, "-m", "tests.parts.biller", str(self._provider_port)]
        self._daemons.start(
            "biller",
            [*biller, self._billed],
            ready=daemons.answers("127.0.0.1", self._provider_port),
            environment={"PYTHONPATH": ":".join(sys.path), "PWD": str(ROOT)},
        )
        self._asked.apply(self._policy())

    @property
    def policy(self) -> Object:
        """The policy as it stands there."""
        found = self.objects.get(kinds.POLICY, NAMESPACE, "search")
        assert found is not None
        return found

    def begin(self) -> None:
        """Create the pod, start its sidecar, and have the application ask all the time."""
        self.wait(lambda: self._document() is not None, "a document")
        self.create_pod("app")
        pod = self._pod("app")
        volumes = self._folder / "policy", self._folder / "secrets"
        for volume in volumes:
            volume.mkdir()
        self._sync()
        self.sidecar = sidecar.Sidecar(
            *("--document", volumes[0] / names.DOCUMENT_KEY, "--secrets", volumes[1]),
            environment={names.ENV_POD_UID: pod["metadata"]["uid"]},
            log=self._folder / "sidecar.log",
        ).wait()
        address = self._network.relay(1, self.sidecar.admin_port)
        status = tenant.running(address)["status"]
        self._asked(
            *("patch", "pod", "app", "-n", NAMESPACE, "--subresource=status", "--type=merge"),
            *("-p", json.dumps({"status": status})),
        )
        for run in (self._sync_all_the_time, self._ask_all_the_time):
            thread = threading.Thread(target=run, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """End all processes."""
        self.pause()
        if hasattr(self, "sidecar"):
            self.sidecar.stop(signal.SIGTERM, signal.SIGINT)
        self._redis.kill()
        self._daemons.stop()

    def pause(self) -> None:
        """The application asks no more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        # The last edit may have come between two of them.
        self._sync()

    def edit(self) -> None:
        """Change the policy, and wait until the document of its sidecars says so."""
        self.requests += 1
        started = time.monotonic()
        self._asked.apply(self._policy())
        self.wait(lambda: self._document() == self.requests, "an edit in the document")
        self.reconciled_seconds.append(time.monotonic() - started)

    def create_pod(self, name: str) -> bool:
        """Create a pod through the API server; whether it got the sidecar."""
        self._asked.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "search"}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            }
        )
        return names.LABEL_INJECTED in (self._pod(name)["metadata"].get("labels") or {})

    def owned(self) -> Object:
        """The Secret that the sidecar mounts, as it stands there."""
        found = self.objects.get(kinds.SECRET, NAMESPACE, names.owned_secret("search"))
        assert found is not None
        return found

    def token(self) -> str:
        """The policy's API token."""
        return base64.b64decode(self.owned()["data"][names.SECRET_API_TOKEN]).decode()

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        conditions = self.policy.get("status", {}).get("conditions", ())
        found = [(it["status"], it["reason"]) for it in conditions if it["type"] == kind]
        return found[0] if found else ("", "")

    def counted(self) -> int:
        """Calls of the day, as the sidecar counts them for the whole policy."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        page = self.sidecar.admin.get(names.PATH_QUOTA, headers=headers).raise_for_status().json()
        assert page["exact"] or page["current_count"] is not None
        return int(page["current_count"])

    def billed(self) -> int:
        """Calls that the provider answered."""
        return len(self._billed.read_text(encoding="utf-8").splitlines())

    def wait(self, check: Any, what: str) -> None:
        """Until something is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not check():
            assert time.monotonic() < deadline, f"no {what} within {PATIENCE_SECONDS:.0f} s"
            time.sleep(0.05)

    # --- what goes on

    def _ask_all_the_time(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            started = time.monotonic()
            try:
                answer = self.sidecar.embed(f"a text of the victim, {next(self._texts)}")
                outcome: int | str = answer.status_code
            except httpx2.HTTPError as error:
                outcome = type(error).__name__
            self.answers[outcome] = self.answers.get(outcome, 0) + 1
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - started)

    def _sync_all_the_time(self) -> None:
        while not self._stopping.wait(_SYNC_SECONDS):
            self._sync()

    def _sync(self) -> None:
        """As kubelet does, but for the links: each file in one step."""
        with suppress(AssertionError):
            values = {
                key: base64.b64decode(value)
                for key, value in (self.owned().get("data") or {}).items()
            }
            found = self.objects.get(
                kinds.CONFIG_MAP, NAMESPACE, names.document_configmap("search")
            )
            text = ((found or {}).get("data") or {}).get(names.DOCUMENT_KEY, "")
            _write(self._folder / "secrets", values)
            _write(self._folder / "policy", {names.DOCUMENT_KEY: text.encode()} if text else {})

    def _document(self) -> int | None:
        name = names.document_configmap("search")
        found = self.objects.get(kinds.CONFIG_MAP, NAMESPACE, name)
        text = ((found or {}).get("data") or {}).get(names.DOCUMENT_KEY)
        return document.parse(text).quota.daily_requests if text else None

    def _pod(self, name: str) -> Object:
        return self._asked.get("pod", name, "-n", NAMESPACE)

    def _policy(self) -> Object:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": NAMESPACE},
            "spec": {
                "podSelector": {"matchLabels": {"app": "search"}},
                "providers": [
                    {
                        "name": "main",
                        "type": "OpenAI",
                        "model": MODEL,
                        "baseURL": f"http://127.0.0.1:{self._provider_port}/v1",
                        "apiKey": {"secretKeyRef": {"name": "keys", "key": "main"}},
                    }
                ],
                "quota": {"daily": {"requests": self.requests}},
                "cache": {"redis": {"url": self._redis.url}},
                "alerts": {"enabled": False},
            },
        }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _write(folder: Path, values: dict[str, bytes]) -> None:
    for name, value in values.items():
        file = folder / name
        if file.exists() and file.read_bytes() == value:
            continue
        new = folder / f"..{name}"
        new.write_bytes(value)
        new.replace(file)
