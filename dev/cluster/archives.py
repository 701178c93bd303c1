"""Image archives in Docker's form, written without any image tool.

The form: https://github.com/moby/docker-image-spec, "Combined Image JSON + Filesystem
Changeset Format", as `docker save` writes it and containerd imports it.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

from dev.cluster import cache as store

PAUSE = "localhost/pause:1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pause(program: Path) -> Path:
    """The archive of the image that holds a pod's namespaces, made from its program."""

    def make(into: Path) -> None:
        write(into / "image.tar", reference=PAUSE, program=program, machine=platform.machine())

    key = store.content_key(program, Path(__file__), platform.machine())
    return store.once(store.folder() / "images" / f"pause-{key}", make) / "image.tar"


def write(path: Path, *, reference: str, program: Path, machine: str) -> None:
    """Write an image that holds one static program, run by a user who is nobody.

    ``machine`` is as ``uname -m`` says it.
    """
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config = {
        "architecture": _ARCHITECTURES[machine],
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    config_json = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config_json).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    contents = {
        "manifest.json": (json.dumps(manifest).encode(), 0o644),
        config_name: (config_json, 0o644),
        "layer.tar": (layer, 0o644),
    }
    path.write_bytes(_tar(contents))


def _tar(contents: Mapping[str, tuple[bytes, int]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, (content, mode) in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()
