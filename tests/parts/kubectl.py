"""kubectl, as a user types it."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev import cluster

DEFINED_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl of one cluster. Every call raises CalledProcessError with the output if it fails."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run it; the standard output."""
        command = [str(cluster.artifact("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode != 0:
            raise KubectlError(" ".join(arguments), done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply of objects."""
        self(
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "-",
            stdin=yaml.safe_dump_all(objects),
        )

    def define(self, file: Path) -> None:
        """Apply a CustomResourceDefinition, and wait until its kind is served."""
        self("apply", "--server-side", "-f", str(file))
        self.wait_until_served(file)

    def wait_until_served(self, file: Path) -> None:
        """Until the kind of a CustomResourceDefinition is served."""
        deadline = time.monotonic() + DEFINED_SECONDS
        # Not `kubectl wait`, which fails while the object has no conditions at all.
        while not (self._established(file) and self._is_listed(file)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{file.name}: not served after {DEFINED_SECONDS} s")
            time.sleep(0.05)

    def _established(self, file: Path) -> bool:
        status = self.get("-f", str(file)).get("status") or {}
        conditions = status.get("conditions") or []  # null until there is one
        return any(it["type"] == "Established" and it["status"] == "True" for it in conditions)

    def _is_listed(self, file: Path) -> bool:
        """False while the storage of an established kind is being made (429)."""
        name = self.get("-f", str(file))["metadata"]["name"]
        try:
            self("get", name, "--all-namespaces", "--output", "name")
        except KubectlError:
            return False
        return True

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of them, as parsed JSON."""
        parsed: dict[str, Any] = json.loads(self("get", *arguments, "-o", "json"))
        return parsed


class KubectlError(AssertionError):
    """kubectl failed; the text is what it said."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"kubectl {command}\n{said}")
        self.said = said
