"""Volumes as kubelet keeps them, in folders of this machine."""

from collections.abc import Mapping
from pathlib import Path


class Volume:
    """A ConfigMap's or Secret's volume, as kubelet keeps it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0
        folder.mkdir()

    def hold(self, entries: Mapping[str, str | bytes]) -> None:
        """Swap the link `..data` to a new folder in one step."""
        self._versions += 1
        version = self.folder / f"..{self._versions}"
        version.mkdir()
        for name, value in entries.items():
            (version / name).write_bytes(value if isinstance(value, bytes) else value.encode())
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(self.folder / "..data")
