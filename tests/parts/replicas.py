"""Several operators on one API server, each with its own account, and which one reconciles."""

import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from embedding_contract import names
from tests.parts import admitting, daemons, installation, ports, relay, shipped_roles
from tests.parts.kubectl import Kubectl, KubectlError

PATIENCE_SECONDS = 60.0
"""Three times the promise for another replica to reconcile."""
SYSTEM = installation.SYSTEM_NAMESPACE
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Replica:
    """`embedding-operator run` whose way to the API server can be frozen."""

    def __init__(self, asked: Kubectl, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self.user = f"system:serviceaccount:{SYSTEM}:{name}"
        """Its name in the audit log."""
        self._daemons = daemons.Daemons(folder)
        kubeconfig = account(asked, folder, name)
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        place = config["clusters"][0]["cluster"]
        host, _, port = place["server"].rpartition(":")
        self.way = relay.Relay(int(port))
        place["server"] = f"{host}:{self.way.port}"
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.webhook_port, self._health_port, metrics_port = (ports.free() for _ in range(3))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "POD_ID": name,
            "OPERATOR_NAMESPACE": SYSTEM,
            "WEBHOOK_CONFIGURATION": shipped_roles.CONFIGURATION,
            "WEBHOOK_SERVICE": "webhook",
            "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
            "WEBHOOK_PORT": str(self.webhook_port),
            "HEALTH_PORT": str(self._health_port),
            "METRICS_PORT": str(metrics_port),
            "RESYNC_SECONDS": "3600",
        }

    def start(self) -> None:
        """Start it, and wait until its readiness probe succeeds; DiedError if it ends instead."""
        self._daemons.start(
            "operator",
            [sys.executable, "-m", "embedding_operator", "run"],
            ready=self.is_ready,
            environment=self._environment,
        )

    def is_ready(self) -> bool:
        """The answer to kubelet's readiness probe."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._daemons.pid("operator"), number)

    def is_running(self) -> bool:
        """True if its process has not ended."""
        return self._daemons.is_running("operator")

    def close(self) -> None:
        """End it, and its way to the API server."""
        with contextlib.suppress(KeyError):
            self._daemons.stop()
        self.way.close()

    def log(self) -> str:
        """All that it has logged."""
        return self._daemons.log("operator").read_text(encoding="utf-8")


class Replicas:
    """Some replicas, of which one at most holds the Lease."""

    def __init__(self, asked: Kubectl, folder: Path) -> None:
        self.asked = asked
        self._folder = folder
        self._made = 0
        self.running: list[Replica] = []

    def add(self) -> Replica:
        """Start one more, and wait until it is ready."""
        self._made += 1
        # The first has the account whose rights the audit log is searched for.
        name = shipped_roles.NAME if self._made == 1 else f"replica-{self._made}"
        made = Replica(self.asked, self._folder / name, name)
        self.running.append(made)
        made.start()
        return made

    def remove(self, replica: Replica) -> None:
        """End one, if it still runs."""
        self.running.remove(replica)
        replica.close()

    def close(self) -> None:
        """End all of them."""
        for it in list(self.running):
            self.remove(it)

    def holder(self) -> Replica | None:
        """The replica in the Lease; None if it is free, or of one that has gone."""
        try:
            lease = self.asked.get("lease", names.LEASE, "-n", SYSTEM)
        except KubectlError:
            return None
        name = lease["spec"].get("holderIdentity", "").partition("_")[0]
        return next((it for it in self.running if it.name == name), None)

    def until_held(self) -> Replica:
        """The replica that holds the Lease, once one does."""
        found: Replica = until(self.holder, "a holder", last=self.logs)
        return found

    def logs(self) -> str:
        """The logs of all."""
        return "\n".join(f"--- {it.name}\n{it.log()}" for it in self.running)

    def writes_after(
        self, replica: Replica, since: datetime, *, but: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The writes of a replica in the audit log that arrived since, without some resources."""
        log = self.asked.kubeconfig.parent / "log" / "audit.log"
        return [
            entry for entry in _entries(log, replica.user, since) if _resource(entry) not in but
        ]


def _entries(log: Path, user: str, since: datetime) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        arrived = datetime.fromisoformat(entry["requestReceivedTimestamp"])
        if entry["user"]["username"] == user and entry["verb"] in WRITES and arrived >= since:
            yield entry


def _resource(entry: dict[str, Any]) -> str:
    found: str = entry.get("objectRef", {}).get("resource", "")
    return found


class Edits:
    """A policy whose quota is edited; its document shows that a replica reconciles."""

    def __init__(self, asked: Kubectl, namespace: str) -> None:
        self._asked = asked
        self._namespace = namespace
        self.number = 1000
        admitting.open_shop(asked, namespace)

    def edit(self) -> int:
        """Set another quota; the number."""
        self.number += 1
        patch = json.dumps({"spec": {"quota": {"daily": {"requests": self.number}}}})
        self._asked("patch", "embpol", "search", "-n", self._namespace, "--type=merge", "-p", patch)
        return self.number

    def in_document(self) -> int:
        """The quota in the document."""
        name = names.document_configmap("search")
        try:
            data = self._asked.get("configmap", name, "-n", self._namespace)["data"]
        except KubectlError:
            return 0
        found: int = (
            json.loads(data["document.json"]).get("quota", {}).get("daily", {}).get("requests", 0)
        )
        return found

    def seconds_until_reconciled(
        self, *, last: Callable[[], str], patience_seconds: float = PATIENCE_SECONDS
    ) -> float:
        """Edit the policy, and wait until its document follows; the time it took."""
        started = time.monotonic()
        wanted = self.edit()
        until(
            lambda: self.in_document() >= wanted,  # others may edit it, too
            f"quota {wanted} in the document",
            last=last,
            seconds=patience_seconds,
        )
        return time.monotonic() - started


def until(
    check: Callable[[], Any],
    what: str,
    *,
    last: Callable[[], str],
    seconds: float = PATIENCE_SECONDS,
) -> Any:
    """The first answer that counts as true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"no {what} after {seconds:g} s:\n{last()}"
        time.sleep(0.1)
    return found


def account(asked: Kubectl, folder: Path, name: str) -> Path:
    """The kubeconfig of an account of its own, bound to the roles of the chart."""
    shipped_roles.grant(asked)
    if name == shipped_roles.NAME:
        return shipped_roles.kubeconfig(asked, folder)
    asked.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": SYSTEM},
        },
        *(bound(it, name) for it in shipped_roles.bindings()),
    )
    return shipped_roles.kubeconfig(asked, folder, name=name)


def bound(binding: dict[str, Any], name: str) -> dict[str, Any]:
    """A binding of the chart for another account."""
    metadata = {**binding["metadata"], "name": f"{binding['metadata']['name']}-{name}"}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}]
    return {**binding, "metadata": metadata, "subjects": subjects}


def kill(replica: Replica) -> None:
    """As by a node that fails."""
    replica.signal(signal.SIGKILL)


def freeze(replica: Replica) -> None:
    """As by a machine that is paused."""
    replica.signal(signal.SIGSTOP)


def cut_off(replica: Replica) -> None:
    """As by a network that drops all packets between replica and API server."""
    replica.way.freeze()
