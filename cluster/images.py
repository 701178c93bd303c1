"""Container images without a registry: built by buildah, exported as Docker archives."""

import os
import platform
import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path

from cluster import archives, base_images, buildah, dockerfiles, progress
from cluster import cache as store
from cluster.errors import Failure

PAUSE = "localhost/pause:1"
ARCHIVES_KEPT = 3


class NoDockerfileError(Failure):
    """There is no such Dockerfile."""


def pause(program: Path) -> Path:
    """The archive of the image that holds a pod's namespaces, made from its program."""

    def make(into: Path) -> None:
        archives.write(
            into / "image.tar",
            reference=PAUSE,
            program=program,
            machine=platform.machine(),
        )

    key = store.content_key(program.read_bytes(), Path(archives.__file__), platform.machine())
    return store.once(store.folder() / "images" / f"pause-{key}", make) / "image.tar"


def build(
    name: str,
    *,
    dockerfile: Path = Path("Dockerfile"),
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
    if not dockerfile.is_file():
        raise NoDockerfileError(f"there is no {dockerfile}")
    arguments = {
        "BASE_IMAGE": base_images.BASE,
        "BUILD_IMAGE": base_images.BUILD_BASE,
        **(build_arguments or {}),
    }
    files = dockerfiles.context_files(dockerfile.read_text(), context)
    key = store.content_key(
        name,
        dockerfile,
        *(f"{key}={value}" for key, value in sorted(arguments.items())),
        base_images.key(),
        *(part for file in files for part in (str(file), _mode(context / file), context / file)),
    )
    plain = name.rpartition("/")[2].replace(":", "-")
    folder = store.folder() / "images" / f"{plain}-{key}"

    def make(into: Path) -> None:
        base_images.ready()
        lock = store.folder() / "locks" / "buildah.lock"
        with store.exclusive(lock), progress.step(f"building image {name}"):
            staged = into / "context"
            dockerfiles.stage(files, context, staged)
            _build(name, dockerfile, staged, arguments)
            shutil.rmtree(staged)
            buildah.run("push", "--quiet", name, f"docker-archive:{into}/image.tar:{name}")

    made = store.once(folder, make)
    store.prune(folder.parent, f"{plain}-*", keep=ARCHIVES_KEPT)
    return made / "image.tar"


def _mode(file: Path) -> str:
    return "executable" if os.access(file, os.X_OK) else "plain"


def _build(name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
    options = ["--pull-never", "--quiet", f"--file={dockerfile.absolute()}", f"--tag={name}"]
    options += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    options += [f"--volume={volume}" for volume in _build_volumes()]
    buildah.run("build", *options, str(context))
    # Also the layers that a former build of that name left.
    buildah.run("rmi", "--prune")


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
