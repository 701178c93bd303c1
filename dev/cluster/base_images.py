"""The images that all others are made of: Debian, by debootstrap.

They are made anew whenever this file changes.
"""

import os
import platform
import shutil
from pathlib import Path

from dev.cluster import buildah, debian, progress
from dev.cluster import cache as store

BASE = "localhost/base:3.11"
"""Debian 12 with its Python 3.11 and CA certificates."""
BUILD_BASE = "localhost/base-build:3.11"
"""The same with pip; what build stages start from."""

_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_BUILD_ONLY = ("python3-pip", "python3-setuptools", "python3-wheel")
_DROPPED = ("usr/share/locale", "usr/share/man", "usr/share/doc", "usr/share/info")
_EMPTIED = ("var/lib/apt/lists", "var/cache", "var/log", "tmp", "dev", "proc", "sys", "run")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def key() -> str:
    """The content key of both."""
    return store.content_key(Path(__file__), platform.machine())


def ready() -> None:
    """Make both, if buildah's storage does not hold them yet.

    Raises:
        buildah.ImageError: debootstrap or buildah failed.
        debian.PackageError: one of them is missing and could not be installed.
    """
    if packages := debian.missing(debian.IMAGE_PACKAGES):
        with progress.step(f"installing {' '.join(packages)}"):
            debian.install(packages)
    with buildah.alone():
        held = buildah.run("images", "--format", "{{.Name}}:{{.Tag}}").split()
        absent = [name for name in (BASE, BUILD_BASE) if _tag(name) not in held]
        if not absent:
            return
        folder = store.folder() / "images" / f"bases-{key()}"
        if not folder.exists():
            with progress.step("installing Debian for the base images"):
                store.once(folder, _debootstrap)
        for number, name in enumerate(absent, 1):
            with progress.step(f"importing {name}", number=number, of=len(absent)):
                _import(name, folder / _archive(name))
                former = [tag for tag in held if tag.startswith(f"{name}-")]
                for tag in former:
                    buildah.run("rmi", tag)
    shutil.rmtree(folder)


def _tag(name: str) -> str:
    return f"{name}-{key()}"


def _archive(name: str) -> str:
    return f"{name.rpartition('/')[2].replace(':', '-')}.tar"


def _debootstrap(into: Path) -> None:
    root = into / "root"
    included = ",".join(("python3", "ca-certificates", *_BUILD_ONLY))
    mirror = os.environ.get("EMBEDDING_OPERATOR_DEBIAN_MIRROR", _MIRROR)
    options = ["--variant=minbase", f"--include={included}"]
    buildah.command(["debootstrap", *options, _SUITE, str(root), mirror])
    for dropped in _DROPPED:
        shutil.rmtree(root / dropped)
    for emptied in _EMPTIED:
        shutil.rmtree(root / emptied)
        (root / emptied).mkdir()
    (root / "tmp").chmod(0o1777)
    # A build stage may install with pip beside Debian's packages.
    marker = root / "usr/lib/python3.11/EXTERNALLY-MANAGED"
    kept = marker.read_bytes()
    marker.unlink()
    _pack(root, into / _archive(BUILD_BASE))
    marker.write_bytes(kept)
    buildah.command(["chroot", str(root), "dpkg", "--purge", *_BUILD_ONLY])
    _pack(root, into / _archive(BASE))
    shutil.rmtree(root)


def _pack(root: Path, archive: Path) -> None:
    options = [f"--file={archive}", f"--directory={root}", "--numeric-owner"]
    buildah.command(["tar", "--create", *options, "."])


def _import(name: str, root_file_system: Path) -> None:
    container = buildah.run("from", "scratch").strip()
    try:
        buildah.run("add", "--quiet", container, str(root_file_system), "/")
        settings = [f"--env=PATH={_PATH}", "--env=LANG=C.UTF-8", "--cmd=python3"]
        buildah.run("config", *settings, container)
        buildah.run("commit", "--quiet", container, name)
    finally:
        buildah.run("rm", container)
    buildah.run("tag", name, _tag(name))
