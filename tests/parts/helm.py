"""Helm, as a user types it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import cluster

TIMEOUT_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Helm:
    """helm of one cluster. Every call raises HelmError with the output if it fails."""

    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it; the standard output."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        done = subprocess.run(
            [str(cluster.artifact("helm")), *where, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(" ".join(arguments), done.stderr.strip())
        return done.stdout

    def upgrade(self, release: str, chart: Path, *, namespace: str, values: dict[str, Any]) -> None:
        """Install a release or bring it to these values, and wait until it runs."""
        command = ["upgrade", "--install", release, str(chart), "--namespace", namespace]
        command += ["--create-namespace", "--wait", "--timeout", "120s", "--values", "-"]
        self(*command, stdin=json.dumps(values))


class HelmError(AssertionError):
    """helm failed; the text is what it said."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"helm {command}\n{said}")
        self.said = said
