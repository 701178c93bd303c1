"""Programs for Node in a folder of their own, with the packages that its lock names."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dev.cluster import cache
from tests.parts import client_programs

SECONDS = 60


def run(folder: Path, script: str, given: Any, environment: Mapping[str, str]) -> Any:
    """What a script of this folder prints, its packages as in the folder's package-lock.json."""
    program, npm = client_programs.node_toolchain()
    installed = cache.folder() / "artifacts" / f"{folder.name}-client-{cache.content_key(folder)}"
    cache.once(installed, lambda into: _install(folder, into, npm))
    done = subprocess.run(
        [program, installed / script],
        input=json.dumps(given),
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _install(folder: Path, into: Path, npm: Sequence[str | Path]) -> None:
    shutil.copytree(folder, into, dirs_exist_ok=True)
    done = subprocess.run(
        [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=into,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
