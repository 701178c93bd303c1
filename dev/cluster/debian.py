"""Programs from Debian's packages: installed for the node, or only unpacked into the cache."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import cache as store
from dev.cluster.errors import Failure

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = ("bin", "sbin")
"""Of a package's usr, where programs are."""
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


class PackageError(Failure):
    """A program is missing and could not be had; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Programs taken out of packages without installing them; any user may do that."""

    programs: tuple[str, ...]
    packages: tuple[str, ...]


UNPACKED: dict[str, Unpacked] = {
    "faketime": Unpacked(("faketime",), ("faketime", "libfaketime")),
    "pgbouncer": Unpacked(("pgbouncer",), ("pgbouncer", "libc-ares2", "libevent-2.1-7")),
    "promtool": Unpacked(("promtool",), ("prometheus",)),
    "redis-server": Unpacked(
        ("redis-server", "redis-cli"),
        ("redis-server", "redis-tools", "liblzf1", "libjemalloc2", "libatomic1"),
    ),
}

# The program looked for, and the package that brings it.
NODE_PACKAGES = {
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "cni/ptp": "containernetworking-plugins",
}
IMAGE_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def found(program: str) -> Path | None:
    """Where ``program`` is, also for a user without the sbin folders on PATH."""
    if program.startswith("cni/"):
        candidates = (folder / program.removeprefix("cni/") for folder in CNI_FOLDERS)
        return next((path for path in candidates if path.exists()), None)
    where = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")
    return Path(where) if where else None


def missing(packages: dict[str, str]) -> list[str]:
    """The packages whose programs are not on this machine."""
    return sorted(package for program, package in packages.items() if found(program) is None)


def install(packages: Sequence[str]) -> None:
    """Install packages by apt, starting no daemon.

    Raises:
        PackageError: not root, no apt, or apt refused.
    """
    wanted = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise PackageError(f"needed and not installed: {wanted} (Debian's names)")
    _refresh_if_unknown(packages)
    _apt(["install", "-y", "-q", "--no-install-recommends", *packages])


def unpack(unpacked: Unpacked, into: Path) -> None:
    """Unpack packages below ``into`` and put starters of their programs beside them.

    Raises:
        PackageError: a package could not be downloaded or unpacked.
    """
    if not shutil.which("apt-get"):
        wanted = ", ".join(unpacked.programs)
        raise PackageError(f"put {wanted} on PATH: there is no apt-get to fetch it with")
    root = into / "root"
    root.mkdir()
    _refresh_if_unknown(unpacked.packages)
    # As root, apt would want to write as another user, who may not enter our folder.
    _apt(["download", "-q", "-o", "APT::Sandbox::User=root", *unpacked.packages], cwd=into)
    for archive in into.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
        archive.unlink()
    for program in unpacked.programs:
        folder = next((it for it in _FOLDERS if (root / "usr" / it / program).exists()), None)
        if folder is None:
            raise PackageError(f"no {program} in {' '.join(unpacked.packages)}")
        _write_starter(into / program, folder)


def _write_starter(path: Path, folder: str) -> None:
    # Relative to itself: the folder gets its final name after it is filled.
    path.write_text(
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")/root/usr\n'
        'for libraries in "$here"/lib/*-linux-gnu; do\n'
        '  export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\n'
        "done\n"
        f'exec "$here/{folder}/{path.name}" "$@"\n'
    )
    path.chmod(0o755)


def unpacked_program(name: str) -> Path:
    """The program ``name``: the machine's own, else unpacked into the cache."""
    if own := found(name):
        return own
    return store.once(unpacked_folder(name), lambda into: unpack(UNPACKED[name], into)) / name


def unpacked_folder(name: str) -> Path:
    """Where the program ``name`` is or will be unpacked."""
    return store.folder() / "artifacts" / f"{name}-{store.content_key(Path(__file__))}"


def _refresh_if_unknown(packages: Sequence[str]) -> None:
    shown = subprocess.run(
        ["apt-cache", "--quiet=0", "show", "--no-all-versions", *packages],
        capture_output=True,
        check=False,
    )
    if shown.returncode != 0 and os.geteuid() == 0:
        _apt(["update", "-q"])


def _apt(arguments: list[str], *, cwd: Path | None = None) -> None:
    # RUNLEVEL=1: packages' scripts then start no service (invoke-rc.d).
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise PackageError(f"apt-get {' '.join(arguments)}: exit {done.returncode}\n{tail}")
