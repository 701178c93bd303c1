"""The one folder outside the tree in which everything built and running is kept.

Artifacts are kept by a key of what they are made from, so a changed input is another
folder and an unchanged one is never made twice.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """The cache folder: ``$EMBEDDING_OPERATOR_CACHE``, or one under ``$XDG_CACHE_HOME``."""
    if named := os.environ.get("EMBEDDING_OPERATOR_CACHE"):
        return Path(named).absolute()
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent).absolute() / "embedding-operator"


def content_key(*parts: str | bytes | Path) -> str:
    """16 hex digits that change when any part does.

    A path stands for the names and bytes of the file or of all files below it. Parts are
    length-prefixed, so no two lists of parts run together to the same bytes.
    """
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            digest.update(len(piece).to_bytes(8, "big"))
            digest.update(piece)
    return digest.hexdigest()[:16]


def _pieces(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, str):
        yield part.encode()
    elif isinstance(part, bytes):
        yield part
    elif part.is_dir():
        for file in sorted(p for p in part.rglob("*") if p.is_file()):
            yield str(file.relative_to(part)).encode()
            yield file.read_bytes()
    else:
        yield part.read_bytes()


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the file ``lock`` against every other process; the kernel frees it if we die."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process: {lock.stem}", file=sys.stderr, flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def once(destination: Path, make: Callable[[Path], None]) -> Path:
    """Make ``destination`` if it is not there, whole or not at all.

    ``make`` fills an empty folder, which then gets its final name; two processes that want
    the same destination make it once.
    """
    if destination.exists():
        return destination
    with exclusive(folder() / "locks" / f"{destination.name}.lock"):
        if destination.exists():
            return destination
        destination.parent.mkdir(parents=True, exist_ok=True)
        work = destination.parent / f".making-{destination.name}"
        if work.exists():
            shutil.rmtree(work)  # whoever made it died: we hold its lock
        work.mkdir()
        try:
            make(work)
            work.rename(destination)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return destination


def prune(parent: Path, pattern: str, *, keep: int) -> None:
    """Delete all but the ``keep`` newest folders of ``parent`` whose names match."""
    # Under a lock: of two that prune at once, one would look for what the other deleted.
    with exclusive(folder() / "locks" / "prune.lock"):
        newest_first = sorted(parent.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in newest_first[keep:]:
            shutil.rmtree(old)
