"""A clock for some processes, by libfaketime: whole seconds ahead of this machine's, and movable.

Only the time of day is moved; monotonic clocks, and with them every time-out, stay as they are.
"""

from pathlib import Path

from dev import cluster


class Clock:
    """The clock of the processes that are started with its `environment`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.ahead_seconds = 0
        self.set(ahead_seconds=0)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process live by this clock."""
        return {
            # The C library's malloc, not jemalloc's: that one asks for the time before libfaketime
            # is ready to tell it.
            "LD_PRELOAD": f"{_library()} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, *, ahead_seconds: int) -> None:
        """Move it, for running processes too."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_seconds:+d}\n", encoding="ascii")
        new.replace(self._file)
        self.ahead_seconds = ahead_seconds


def forget(pid: int) -> None:
    """Remove what libfaketime leaves in shared memory for a process that was killed."""
    for left in Path("/dev/shm").glob(f"*faketime_s?m_{pid}"):
        left.unlink(missing_ok=True)


def _library() -> Path:
    beside = cluster.artifact("faketime").parent
    for root in (beside / "root/usr/lib", Path("/usr/lib")):
        for library in root.glob("*/faketime/libfaketime.so.1"):
            return library
    raise FileNotFoundError("there is no libfaketime.so.1 of the package libfaketime")
