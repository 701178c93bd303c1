"""What a process holds, by /proc: memory, descriptors and threads."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """A process at one moment; `rss_kib` is its resident memory."""

    seconds: float
    rss_kib: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int, *, seconds: float) -> "Footprint":
        """The footprint of a running process, so many seconds after a beginning of one's own."""
        own = _PROC / str(pid)
        lines = (own / "status").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return cls(
            seconds=seconds,
            rss_kib=int(fields["VmRSS"].split()[0]),
            descriptors=sum(1 for _ in (own / "fd").iterdir()),
            threads=int(fields["Threads"]),
        )


def growth(seen: Sequence[Footprint], *, after_seconds: float, word: str) -> float:
    """The growth of a figure from the first fifth of what came after some time to the last fifth.

    It is a share of the first; of each fifth the median counts.
    """
    counted = [getattr(it, word) for it in seen if it.seconds >= after_seconds]
    part = max(1, len(counted) // 5)
    first, last = statistics.median(counted[:part]), statistics.median(counted[-part:])
    return float(last / first - 1)
