"""The operator as a process of its own, with the settings and permissions that the chart gives."""

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.parts import daemons, helm, ports, shipped_roles
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE
from tests.parts.kubectl import Kubectl

NAME = "embedding-operator"
USER = shipped_roles.USER
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def install(asked: Kubectl, values: Mapping[str, Any]) -> None:
    """Install the chart, or upgrade it; where there is no node its pod never starts."""
    shipped_roles.AUDIT.follow(asked.kubeconfig.parent / "log")
    helm.Helm(asked.kubeconfig)(
        *("upgrade", "--install", NAME, str(ROOT / "charts" / NAME), "-n", SYSTEM_NAMESPACE),
        *("--create-namespace", "-f", "-"),
        stdin=json.dumps(values),
    )


def environment(asked: Kubectl, folder: Path) -> dict[str, str]:
    """What the chart's Deployment gives it, but for what is elsewhere on this machine."""
    deployment = asked.get("deployment", NAME, "-n", SYSTEM_NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    guard = folder / "allowed.yaml"
    configmap = asked.get("configmap", f"{NAME}-guard", "-n", SYSTEM_NAMESPACE)
    guard.write_text(configmap["data"]["allowed.yaml"], encoding="utf-8")
    webhook, health, metrics = (ports.free() for _ in range(3))
    return given | {
        "PATH": os.environ["PATH"],
        "MALLOC_ARENA_MAX": "2",  # as the image says
        "HOME": str(folder),
        "KUBECONFIG": str(_kubeconfig(asked, folder)),
        "VAULT_GUARD_FILE": str(guard),
        "WEBHOOK_PORT": str(webhook),
        "HEALTH_PORT": str(health),
        "METRICS_PORT": str(metrics),
        "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
        # One at a time; the Lease of one that was killed would keep the next one for 15 s.
        "LEADER_ELECTION": "false",
    }


class Operator:
    """`embedding-operator run` as the chart's ServiceAccount, once the chart is installed."""

    def __init__(self, asked: Kubectl, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._daemons = daemons.Daemons(folder)
        self._environment = environment(asked, folder)

    @property
    def workers(self) -> int:
        """The number of reconciles at once."""
        return int(self._environment["WORKERS"])

    def start(self, **settings: str) -> None:
        """Start it, with other settings than the chart's where given; wait until it serves."""
        # A probe is answered from the start; the webhook once all is listed.
        served = "WEBHOOK_CONFIGURATION" in self._environment
        port = int(self._environment["WEBHOOK_PORT" if served else "HEALTH_PORT"])
        self._daemons.start(
            "operator",
            [sys.executable, "-m", "embedding_operator", "run"],
            ready=daemons.answers("127.0.0.1", port),
            environment=self._environment | settings,
        )

    def stop(self) -> None:
        """End it."""
        self._daemons.stop()

    def pause(self) -> None:
        """Stop it as it is (SIGSTOP)."""
        os.kill(self._pid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid(), signal.SIGCONT)

    def healthy(self) -> bool:
        """The answer to kubelet's probe."""
        url = f"http://127.0.0.1:{self._environment['HEALTH_PORT']}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=10):
                return True
        except OSError:
            return False

    def log(self) -> str:
        """All it has said."""
        return self._daemons.log("operator").read_text(encoding="utf-8")

    def metric(self, name: str, *, labelled: str = "") -> float:
        """The sum of a metric's series, of those with `labelled` in their labels."""
        url = f"http://127.0.0.1:{self._environment['METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        series = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return sum(
            float(value)
            for key, _, value in series
            if key.partition("{")[0] == name and labelled in key
        )

    def resident_bytes(self) -> int:
        """Memory that the process holds (VmRSS of proc(5))."""
        return self._memory_kib("VmRSS") * 1024

    def most_resident_bytes(self) -> int:
        """The most that it ever held (VmHWM of proc(5))."""
        return self._memory_kib("VmHWM") * 1024

    def processor_seconds(self) -> float:
        """Time on a processor since it was started (utime and stime of proc(5))."""
        stat = Path(f"/proc/{self._pid()}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _CLOCK_TICKS

    def _memory_kib(self, field: str) -> int:
        status = Path(f"/proc/{self._pid()}/status").read_text(encoding="utf-8")
        return next(int(it.split()[1]) for it in status.splitlines() if it.startswith(field))

    def _pid(self) -> int:
        return self._daemons.pid("operator")


def _kubeconfig(asked: Kubectl, folder: Path) -> Path:
    token = asked("create", "token", NAME, "-n", SYSTEM_NAMESPACE, "--duration=4h")
    config = yaml.safe_load(asked.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.strip()}}]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file
