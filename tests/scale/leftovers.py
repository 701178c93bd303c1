"""The folder of a run, and the removal of what a killed run has left: as `dev/cluster` does."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev import cluster
from dev.cluster import cache, processes
from tests.parts import daemons

FOLDER: Final = cache.folder() / "scale"
_OWNER: Final = "owner.json"


@contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for what runs beside a cluster; all of both is gone at the end.

    What a run that was killed has left goes first.
    """
    remove_stale()
    made = FOLDER / str(os.getpid())
    made.mkdir(parents=True)
    owner = processes.identify(os.getpid())
    if owner is None:
        raise AssertionError("this process does not run")
    (made / _OWNER).write_text(json.dumps(dataclasses.asdict(owner)), encoding="utf-8")
    try:
        yield made
    finally:
        _remove(made)


def remove_stale() -> list[str]:
    """Remove clusters, programs and folders of runs that have ended; their names."""
    removed = cluster.down_stale()
    for folder in sorted(FOLDER.glob("*")):
        file = folder / _OWNER
        if file.exists() and processes.Identity(**json.loads(file.read_text())).alive():
            continue
        _remove(folder)
        removed.append(folder.name)
    return removed


def _remove(folder: Path) -> None:
    for file in folder.rglob(daemons.FILE):
        daemons.Daemons(file.parent).stop()
    shutil.rmtree(folder)
