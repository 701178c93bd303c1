"""The machine that a run is on: its memory, its disk, and whether anything else uses it."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.scale.generator import Generator

MIB: Final = 1024**2
GIB: Final = 1024**3

# By runs of 100 to 1,000 policies, rounded up: API server, etcd and the controllers, the operator,
# OpenBao and the runner itself. The second numbers are of the disk: etcd's file, and the audit log.
_BASE: Final = (2 * GIB, 1 * GIB)
_OF_EACH: Final = {
    "policies": (MIB // 2, MIB // 4),
    "secrets": (MIB // 8, MIB // 16),
    "pods": (MIB // 4, MIB // 8),
}


class TooLargeError(Exception):
    """The machine cannot hold a run; the text begins with the file's name and the field's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Cores, bytes, and the load average of the last minute."""

    cores: int
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    """Free, where clusters are kept."""
    load: float

    @property
    def is_busy(self) -> bool:
        """Whether more runs than there are cores for."""
        return self.load > self.cores

    def __str__(self) -> str:
        return f"{self.cores} cores, {self.memory_bytes / GIB:.0f} GiB, {platform.machine()}"


def seen(folder: Path) -> Machine:
    """The machine now; `folder` is where clusters are kept."""
    page = os.sysconf("SC_PAGE_SIZE")
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    available = next(it for it in text.splitlines() if it.startswith("MemAvailable:"))
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * page,
        available_bytes=int(available.split()[1]) * 1024,
        disk_bytes=shutil.disk_usage(folder).free,
        load=os.getloadavg()[0],
    )


def check(wanted: Generator, machine: Machine) -> None:
    """Refuse a run that the machine cannot hold.

    Raises:
        TooLargeError: memory or disk are too small.
    """
    counts = {"policies": wanted.policies, "secrets": wanted.secrets, "pods": wanted.pods}
    there = (machine.available_bytes, machine.disk_bytes)
    for kind, (word, held) in enumerate(zip(("memory", "disk"), there, strict=True)):
        parts = {name: count * _OF_EACH[name][kind] for name, count in counts.items()}
        needed = _BASE[kind] + sum(parts.values())
        if needed > held:
            largest = max(parts, key=lambda name: parts[name])
            field = largest if largest == "policies" else f"{largest}OfEach"
            raise TooLargeError(
                f"{wanted.file}: {field}: {counts[largest]:,} {largest} need {needed / GIB:.1f}"
                f" GiB of {word} in all, and {held / GIB:.1f} GiB are free"
            )
