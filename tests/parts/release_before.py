"""Releases of before, as they were: their tree, their packages, their images and their chart.

A release is a commit of this repository until one is tagged. Its files are taken from git once and
kept by the commit, so that programs of two releases run beside each other, each from its own tree.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import cache, images, progress

ROOT = Path(__file__).parents[2]
PREVIOUS = "4fd8761c681c0a5a4d6137f7feccb1b42eed746e"
"""N-1: what the product was before money, months, indexes and proofs of the API token."""
LATEST = "865b1e8"
"""The last commit of before the upgrade itself was tested."""
_PYTHON = Path("/usr/bin/python3.11")
"""That of the images, where this machine has it."""


@dataclass(frozen=True, slots=True)
class Release:
    """One commit of this repository, outside of the working tree."""

    commit: str
    folder: Path

    @property
    def tree(self) -> Path:
        """Its files."""
        return self.folder / "tree"

    @property
    def chart(self) -> Path:
        """Its chart."""
        return self.tree / "charts" / "embedding-operator"

    @property
    def crd(self) -> Path:
        """Its definition of EmbeddingPolicy."""
        return self.tree / "crds" / "embeddingpolicies.yaml"

    def program(self, name: str) -> list[str | Path]:
        """The command of `embedding-operator` or `embedding-sidecar`, with its own packages."""
        return [self.folder / "venv" / "bin" / "python", "-m", name.replace("-", "_")]

    @property
    def environment(self) -> dict[str, str]:
        """What makes its Python find its own modules, and no others."""
        folders = [self.tree / name for name in ("operator", "sidecar", "vectors")]
        return {"PYTHONPATH": ":".join(map(str, folders)), "PYTHONSAFEPATH": "1"}

    def image(self, name: str) -> str:
        """The name of its image of `embedding-operator` or `embedding-sidecar`."""
        return f"localhost/{name}:{self.commit[:7]}"

    def archive(self, name: str) -> Path:
        """Its image, built by its own Dockerfile."""
        part = name.removeprefix("embedding-")
        dockerfile = self.tree / part / "Dockerfile"
        return images.build(self.image(name), file=dockerfile, context=self.tree)


def of(commit: str = PREVIOUS) -> Release:
    """A release, taken from git and with its packages installed if that was not done before."""
    full = _git("rev-parse", f"{commit}^{{commit}}").decode().strip()
    folder = cache.folder() / "releases" / full[:16]
    return Release(full, cache.once(folder, lambda into: _make(full, into)))


def _make(commit: str, into: Path) -> None:
    with progress.step(f"taking release {commit[:7]} from git"):
        tree = into / "tree"
        tree.mkdir()
        # Not `git worktree`: that leaves a note in the repository, which a removed cache breaks.
        _run(["tar", "--extract", f"--directory={tree}"], stdin=_git("archive", commit))
        uv = shutil.which("uv", path=str(ROOT / ".tools" / "bin")) or "uv"
        # The project itself is not installed, as its scripts and links would name `into`, which is
        # renamed. Nothing of the environment is started but its Python.
        _run(
            [uv, "sync", "--frozen", "--all-extras", "--no-dev", "--no-install-project", "--quiet"],
            cwd=tree,
            UV_PROJECT_ENVIRONMENT=str(into / "venv"),
            UV_PYTHON=sys.executable if not _PYTHON.exists() else str(_PYTHON),
        )


def _git(*arguments: str) -> bytes:
    return _run(["git", *arguments], cwd=ROOT)


def _run(
    command: Sequence[str], *, cwd: Path | None = None, stdin: bytes = b"", **environment: str
) -> bytes:
    given = {**os.environ, **environment}
    given.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        command, cwd=cwd, input=stdin, env=given, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command[:2])}: {done.stderr.decode()}")
    return done.stdout
