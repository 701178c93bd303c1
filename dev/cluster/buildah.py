"""The tool that builds images, with its storage in our cache."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dev.cluster import cache as store
from dev.cluster import debian
from dev.cluster.errors import Failure


class ImageError(Failure):
    """An image could not be made; the text ends with what the tool said."""


@contextmanager
def alone() -> Iterator[None]:
    """Hold the storage against other builds, without what a killed one left in it."""
    with store.exclusive(store.folder() / "locks" / "buildah.lock"):
        run("rm", "--all")
        run("rmi", "--prune")
        yield


def run(*arguments: str) -> str:
    """Run buildah and give back its output.

    Raises:
        ImageError: it failed.
    """
    storage = store.folder() / "buildah"
    # vfs and chroot: no overlay on overlay and no container runtime are asked of a machine.
    where = [f"--root={storage}/root", f"--runroot={storage}/run", "--storage-driver=vfs"]
    return command(["buildah", *where, *arguments])


def command(words: Sequence[str]) -> str:
    """Run a program that images are made with and give back its output.

    Raises:
        ImageError: it failed.
    """
    environment = {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "BUILDAH_FORMAT": "docker",
        "PATH": f"{os.environ.get('PATH', '')}:{debian.SYSTEM_FOLDERS}",
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise ImageError(f"{' '.join(words)}: exit {done.returncode}\n{tail}")
    return done.stdout
