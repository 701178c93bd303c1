"""Container images without a registry: built by buildah, exported as Docker archives."""

import os
import shutil
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

from dev.cluster import (
    artifacts,
    base_images,
    buildah,
    current,
    dockerfiles,
    node,
    progress,
    records,
)
from dev.cluster import cache as store
from dev.cluster.errors import Failure

ARCHIVES_KEPT = 3


class NoClusterError(Failure):
    """There is no cluster of that name."""


class NoDockerfileError(Failure):
    """There is no such Dockerfile."""


def build(
    name: str,
    *,
    file: Path = Path("Dockerfile"),
    context: Path = Path(),
    build_arguments: Mapping[str, str] | None = None,
) -> Path:
    """The docker-archive of the image ``name``, built only if an input changed.

    The inputs are the Dockerfile, its arguments, the base images, and those files of the
    context that it copies (in a git tree: that git does not ignore). ``BASE_IMAGE`` and
    ``BUILD_IMAGE`` are given to it unless ``build_arguments`` says otherwise.

    Raises:
        NoDockerfileError: there is none.
        dockerfiles.ContextError: it copies what is not there.
        buildah.ImageError: the build failed.
        debian.PackageError: buildah or debootstrap is missing and could not be installed.
    """
    if not file.is_file():
        raise NoDockerfileError(f"there is no {file}")
    arguments = {
        "BASE_IMAGE": base_images.BASE,
        "BUILD_IMAGE": base_images.BUILD_BASE,
        **(build_arguments or {}),
    }
    files = dockerfiles.context_files(file.read_text(), context)
    key = store.content_key(
        name,
        file,
        *(f"{word}={value}" for word, value in sorted(arguments.items())),
        base_images.key(),
        *(
            part
            for taken in files
            for part in (str(taken), _mode(context / taken), context / taken)
        ),
    )
    plain = name.rpartition("/")[2].replace(":", "-")
    folder = store.folder() / "images" / f"{plain}-{key}"

    def make(into: Path) -> None:
        base_images.ready()
        with buildah.alone(), progress.step(f"building image {name}"):
            staged = into / "context"
            dockerfiles.stage(files, context, staged)
            _build(name, file, staged, arguments)
            shutil.rmtree(staged)
            buildah.run("push", "--quiet", name, f"docker-archive:{into}/image.tar:{name}")
            buildah.run("rmi", name)  # the archive is all that is used of it

    made = store.once(folder, make)
    made.touch()  # used now, so it is not the oldest
    store.prune(folder.parent, f"{plain}-{'[0-9a-f]' * 16}", keep=ARCHIVES_KEPT)
    return made / "image.tar"


def load(archive: Path, *, name: str) -> None:
    """Load a docker-archive into the node of the cluster ``name``.

    With ``CLUSTER=current`` it only says what to do: how depends on that cluster.

    Raises:
        NoClusterError: there is no such cluster.
        node.NodeError: it has no node, or that refused the archive.
    """
    if current.chosen():
        print(current.how_to_load(archive), file=sys.stderr)
        return
    record = records.load(name)
    if record is None:
        raise NoClusterError(f"there is no cluster {name}")
    with progress.step(f"loading {archive.parent.name} into {name}"):
        node.load(record, archive.absolute(), ctr=artifacts.ready("ctr"))


def push(archive: Path, name: str, *, to: str, login: str = "", plain_http: bool = False) -> None:
    """Push the image ``name`` of a docker-archive to a registry, as the reference ``to``.

    ``login`` is USER:PASSWORD; without one, buildah's own logins are used.

    Raises:
        buildah.ImageError: the registry refused it, or does not answer.
    """
    options = [f"--creds={login}"] if login else []
    options += ["--tls-verify=false"] if plain_http else []
    with buildah.alone(), progress.step(f"pushing {to}"):
        buildah.run("pull", "--quiet", f"docker-archive:{archive}")
        try:
            buildah.run("push", "--quiet", *options, name, f"docker://{to}")
        finally:
            buildah.run("rmi", name)


def _mode(file: Path) -> str:
    return "executable" if os.access(file, os.X_OK) else "plain"


def _build(name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
    options = ["--pull-never", "--quiet", f"--file={dockerfile.absolute()}", f"--tag={name}"]
    options += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    options += [f"--volume={volume}" for volume in _build_volumes()]
    buildah.run("build", *options, str(context))


def _build_volumes() -> list[str]:
    """What RUN steps see of this machine: caches, certificates, where packages come from."""
    settings = store.folder() / "build"
    packages = settings / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    trusting = settings / "uv.toml"
    trusting.write_text("system-certs = true\n")
    mounted = {packages: "/root/.cache:rw"}
    home = Path.home() / ".config"
    if pip := _first_file(home / "pip/pip.conf", Path("/etc/pip.conf")):
        mounted[pip] = "/etc/pip.conf:ro"
    uv = _first_file(home / "uv/uv.toml", Path("/etc/uv/uv.toml")) or trusting
    mounted[uv] = "/etc/uv/uv.toml:ro"
    if authorities := ssl.get_default_verify_paths().cafile:
        mounted[Path(authorities)] = "/etc/ssl/certs/ca-certificates.crt:ro"
    return [f"{source}:{target}" for source, target in mounted.items()]


def _first_file(*candidates: Path) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)
