"""Everything a cluster or a test needs ready-made, by name."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from dev.cluster import cache as store
from dev.cluster import debian, gomodules, progress
from dev.cluster.errors import Failure

CRDS = "prometheus-operator-crds"
_CRD_MODULE = "github.com/prometheus-operator/prometheus-operator"
NOVEL = "tom-sawyer.txt"
"""Mark Twain, 1876, in the public domain: sentences to search, beside a compressor's tests."""
_NOVEL_MODULE = "github.com/klauspost/compress"

KWOK_STAGES = "kwok-stages.yaml"
"""What kwok does to nodes and pods: they are ready at once, as kwok's own default."""
_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
)

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = (
    *CONTROL_PLANE,
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "coredns",
    "pause",
    "helm",
)
BY_FORM = {"control-plane": CONTROL_PLANE, "node": NODE, "node-ipv6": NODE}
VERSION = "KUBERNETES"
"""The environment's variable for an earlier minor of Kubernetes, such as 1.29."""


class UnknownArtifactError(Failure):
    """No artifact of that name; the text lists those there are."""


class UnknownVersionError(Failure):
    """No such version of Kubernetes in that form; the text lists those there are."""


def chosen_kubernetes() -> str:
    """The minor that ``$KUBERNETES`` names; empty for the newest, which has every form."""
    return os.environ.get(VERSION, "")


def names_of(form: str, kubernetes: str = "") -> dict[str, str]:
    """The artifacts of a cluster by the role that each has in it, such as ``kube-apiserver``.

    ``kubernetes`` is one of the earlier minors, or empty for the newest. etcd and kubectl are the
    newest's in each.

    Raises:
        UnknownVersionError: that minor is not built, or not in this form.
    """
    earlier = gomodules.EARLIER_KUBERNETES
    if kubernetes and (kubernetes not in earlier or form != "control-plane"):
        raise UnknownVersionError(
            f"{VERSION}={kubernetes}: there are {', '.join(earlier)}, as control planes"
        )
    replaced = gomodules.CONTROL_PLANE_OF_EARLIER if kubernetes else ()
    return {name: f"{name}-{kubernetes}" if name in replaced else name for name in BY_FORM[form]}


def names() -> list[str]:
    """All names that ``ready`` knows."""
    return sorted([*gomodules.PROGRAMS, *debian.UNPACKED, CRDS, NOVEL, KWOK_STAGES])


def ready(name: str) -> Path:
    """The path of an artifact, made first where it is absent.

    Raises:
        UnknownArtifactError: no such artifact.
        gomodules.ToolchainError: a Go build failed.
        debian.PackageError: a Debian package could not be had.
    """
    return all_ready([name])[name]


def all_ready(wanted: Iterable[str]) -> dict[str, Path]:
    """The paths of several artifacts, by name; says how far it is while it makes them.

    Raises:
        as ``ready``.
    """
    listed = list(wanted)
    unknown = sorted(set(listed) - set(names()))
    if unknown:
        raise UnknownArtifactError(f"no {', '.join(unknown)}; there are: {', '.join(names())}")
    absent = [name for name in listed if not _is_there(name)]
    for number, name in enumerate(absent, 1):
        with progress.step(f"building {name}", number=number, of=len(absent)):
            _make(name)
    return {name: _make(name) for name in listed}


def _is_there(name: str) -> bool:
    if name in debian.UNPACKED:
        return debian.found(name) is not None or debian.unpacked_folder(name).exists()
    return _folder(name).exists()


def _make(name: str) -> Path:
    if name in debian.UNPACKED:
        return debian.unpacked_program(name)
    if name == CRDS:
        return store.once(_folder(name), _copy_crds)
    if name == NOVEL:
        return store.once(_folder(name), _copy_novel) / name
    if name == KWOK_STAGES:
        return store.once(_folder(name), _join_stages) / name
    return store.once(_folder(name), lambda into: gomodules.build(name, into)) / name


def _folder(name: str) -> Path:
    if name in (CRDS, NOVEL):
        key = store.content_key(gomodules.MODULES / "prometheus-operator")
    elif name == KWOK_STAGES:
        key = store.content_key(gomodules.MODULES / "kwok")
    else:
        key = gomodules.key(gomodules.PROGRAMS[name])
    return store.folder() / "artifacts" / f"{name}-{key}"


def _copy_crds(into: Path) -> None:
    source = gomodules.module_folder("prometheus-operator", _CRD_MODULE)
    for file in sorted((source / "example/prometheus-operator-crd").glob("*.yaml")):
        copied = into / file.name
        shutil.copyfile(file, copied)
        os.chmod(copied, 0o644)  # noqa: PTH101 - Go keeps its modules read-only


def _copy_novel(into: Path) -> None:
    source = gomodules.module_folder("prometheus-operator", _NOVEL_MODULE)
    shutil.copyfile(source / "testdata/Mark.Twain-Tom.Sawyer.txt", into / NOVEL)


def _join_stages(into: Path) -> None:
    source = gomodules.module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize/stage"
    text = "\n---\n".join((source / it).read_text(encoding="utf-8") for it in _STAGES)
    (into / KWOK_STAGES).write_text(text, encoding="utf-8")
