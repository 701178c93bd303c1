"""Node and its OpenAI SDK: the machine's own node, or Debian's, and the locked package."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster import cache, debian

SECONDS = 60


def run(folder: Path, script: str, given: Any, environment: Mapping[str, str]) -> Any:
    """What a script of this folder prints, its packages as in the folder's package-lock.json."""
    for program, package in (("node", "nodejs"), ("npm", "npm")):
        if debian.found(program) is None:
            debian.install([package])
    installed = cache.folder() / "artifacts" / f"{folder.name}-client-{cache.content_key(folder)}"
    cache.once(installed, lambda into: _install(folder, into))
    done = subprocess.run(
        ["node", installed / script],
        input=json.dumps(given),
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _install(folder: Path, into: Path) -> None:
    shutil.copytree(folder, into, dirs_exist_ok=True)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=into,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
