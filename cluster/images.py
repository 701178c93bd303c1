"""Container images without a registry."""

import platform
from pathlib import Path

from cluster import archives
from cluster import cache as store

PAUSE = "localhost/pause:1"


def pause(program: Path) -> Path:
    """The archive of the image that holds a pod's namespaces, made from its program."""

    def make(into: Path) -> None:
        archives.write(
            into / "image.tar",
            reference=PAUSE,
            files={"pause": program.read_bytes()},
            entrypoint=["/pause"],
            machine=platform.machine(),
        )

    key = store.content_key(program.read_bytes(), Path(archives.__file__), platform.machine())
    return store.once(store.folder() / "images" / f"pause-{key}", make) / "image.tar"
