"""Which files of a context a Dockerfile takes, and nothing but those for its build."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dev.cluster.errors import Failure

_COPY = re.compile(r"^\s*(?:COPY|ADD)\s+(.*)$", re.IGNORECASE)


class ContextError(Failure):
    """A Dockerfile copies what its context does not hold."""


def copied(dockerfile: str) -> list[str]:
    """The sources of its COPY and ADD lines, but of those that copy from another stage."""
    sources: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        found = _COPY.match(line)
        if not found:
            continue
        words = found[1].split()
        options = [word for word in words if word.startswith("--")]
        if any(option.startswith("--from=") for option in options):
            continue
        rest = found[1].split(None, len(options))[-1] if options else found[1]
        places = json.loads(rest) if rest.startswith("[") else rest.split()
        sources += places[:-1]
    return sources


def context_files(dockerfile: str, context: Path) -> list[Path]:
    """The files it takes from ``context``, relative to it, in order.

    Raises:
        ContextError: a source matches no file.
    """
    known = _kept_files(context)
    taken: set[Path] = set()
    for source in copied(dockerfile):
        pattern = source.strip("/")
        everything = pattern in {"", "."}
        roots = [Path()] if everything else [p.relative_to(context) for p in context.glob(pattern)]
        matching = {file for file in known if any(file.is_relative_to(root) for root in roots)}
        if not matching:
            raise ContextError(f"{source}: no such file in {context.absolute()}")
        taken |= matching
    return sorted(taken)


def _kept_files(context: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=context,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = (Path(name) for name in listed.stdout.split("\0") if name)
        return [name for name in names if (context / name).is_file()]
    return [p.relative_to(context) for p in context.rglob("*") if p.is_file()]


def stage(files: Sequence[Path], context: Path, into: Path) -> None:
    """Copy ``files`` of ``context`` into a folder of their own."""
    into.mkdir()
    for file in files:
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / file, into / file)
