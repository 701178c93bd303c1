"""Pods that no machine runs: kwok plays kubelet, and one process plays their sidecars."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev import cluster
from dev.cluster.artifacts import KWOK_STAGES
from embedding_contract import names
from embedding_operator.injection import selection
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Kind, Object, ObjectKey
from tests.parts import arrivals, daemons, direct, estate
from tests.parts.installation import ROOT, wait
from tests.scale import edits
from tests.scale.sidecars import ASKED, FOLLOWS, POLICY_LABEL

NODE: Final = Kind("api/v1", "nodes", namespaced=False)
NODE_NAME: Final = "played"
CREATED_SECONDS: Final = 3600
IN_FORCE_SECONDS: Final = 1800
CONNECTIONS: Final = 8
_IN_FORCE: Final = "ConfigInForce"


class InForce(arrivals.Watch):
    """The policies whose newest generation is in force in all of their pods."""

    def __init__(self, kubeconfig: Path, *, pods_of_each: int) -> None:
        self._pods_of_each = pods_of_each
        super().__init__(kubeconfig, kinds.POLICY)

    def value_of(self, found: Object) -> str | None:
        """The number that is in force; None while it is not in all pods."""
        status = found.get("status") or {}
        is_true = any(
            it["type"] == _IN_FORCE and it["status"] == "True"
            for it in status.get("conditions", ())
        )
        is_of_this = status.get("observedGeneration") == found["metadata"]["generation"]
        is_in_all = (status.get("pods") or {}).get("inForce") == self._pods_of_each
        return edits.number_of(found["spec"]) if is_true and is_of_this and is_in_all else None


class Pods:
    """The pods of an estate: `pods_of_each` for each policy."""

    def __init__(self, built: estate.Estate, folder: Path, *, pods_of_each: int) -> None:
        self._built = built
        self._pods_of_each = pods_of_each
        self._daemons = daemons.Daemons(folder)
        self._folder = folder

    def enable(self) -> None:
        """Have the API server inject the pods of all namespaces."""
        label = {"metadata": {"labels": {names.LABEL_INJECTION: selection.ENABLED}}}
        connection = direct.Direct(self._built.asked.kubeconfig)
        for space in self._built.namespaces:
            connection.done("PATCH", kinds.NAMESPACE.path(None, space), label, content=direct.MERGE)
        connection.close()

    def start(self) -> float:
        """Create the pods, and wait until each is in force; seconds of that."""
        self._start_kubelet()
        self._start_sidecars()
        with self._in_force() as found:
            began = time.monotonic()
            self._create()
            wait(
                lambda: found.count() == len(self._built.policies),
                "all pods in force",
                timeout_seconds=CREATED_SECONDS,
                last=lambda: f"{found.count()} of {len(self._built.policies)} policies",
            )
            return time.monotonic() - began

    def edit_all(self, editor: edits.Editor) -> float:
        """Edit every policy at once; seconds until all of it is in force in every pod."""
        with self._in_force() as found:
            began = time.monotonic()
            with ThreadPoolExecutor(edits.SENDERS) as threads:
                keys = [ObjectKey(*it) for it in self._built.policies]
                sent = list(threads.map(editor.edit, keys))
            deadline = began + IN_FORCE_SECONDS
            came = [
                found.wait(policy, number, timeout_seconds=deadline - time.monotonic())
                for policy, number, _ in sent
            ]
        return max(came) - began

    def asked(self) -> int:
        """How often the operator has asked all sidecars, up to a second ago."""
        lines = (it for it in self._said().splitlines() if it.startswith(ASKED))
        return max((int(it.removeprefix(ASKED)) for it in lines), default=0)

    def stop(self) -> None:
        """End kubelet and sidecars."""
        self._daemons.stop()

    def _said(self) -> str:
        return self._daemons.log("sidecars").read_text(encoding="utf-8")

    @contextmanager
    def _in_force(self) -> Iterator[InForce]:
        found = InForce(self._built.asked.kubeconfig, pods_of_each=self._pods_of_each)
        try:
            yield found
        finally:
            found.close()

    def _start_kubelet(self) -> None:
        connection = direct.Direct(self._built.asked.kubeconfig)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME}}
        connection.done("POST", NODE.path(None), node)

        def is_ready() -> bool:
            status = connection.done("GET", NODE.path(None, NODE_NAME)).get("status") or {}
            return any(
                it["type"] == "Ready" and it["status"] == "True"
                for it in status.get("conditions", ())
            )

        # Addresses of loopback, in a part of it that another run has not.
        part = 64 + os.getpid() % 128
        self._daemons.start(
            "kwok",
            [
                cluster.artifact("kwok"),
                f"--kubeconfig={self._built.asked.kubeconfig}",
                f"--config={cluster.artifact(KWOK_STAGES)}",
                "--manage-all-nodes",
                "--node-lease-duration-seconds=40",  # kubelet's default
                f"--cidr=127.{part}.0.0/16",
            ],
            ready=is_ready,
            environment={**os.environ, "HOME": str(self._folder)},
        )
        connection.close()

    def _start_sidecars(self) -> None:
        self._daemons.start(
            "sidecars",
            [sys.executable, "-m", "tests.scale.sidecars", self._built.asked.kubeconfig],
            ready=lambda: FOLLOWS in self._said(),
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def _create(self) -> None:
        wanted = [
            (namespace, policy, number)
            for number in range(self._pods_of_each)
            for namespace, policy in self._built.policies
        ]

        def send(part: list[tuple[str, str, int]]) -> None:
            connection = direct.Direct(self._built.asked.kubeconfig)
            for namespace, policy, number in part:
                connection.done("POST", kinds.POD.path(namespace), pod(policy, number))
            connection.close()

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(send, (wanted[at::CONNECTIONS] for at in range(CONNECTIONS))))


def pod(policy: str, number: int) -> Object:
    """A pod that a policy of an estate selects, on the node that is played."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{policy}-{number}", "labels": {POLICY_LABEL: policy}},
        "spec": {
            "nodeName": NODE_NAME,
            "containers": [{"name": "application", "image": "application.example/none:1"}],
        },
    }
