"""Daemons that outlive the command that started them, and are never mistaken for others."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.errors import Failure

Check = Callable[[], bool]

POLL_SECONDS = 0.05
LOG_LINES_SHOWN = 15
KILLED_SECONDS = 20

# The daemon starts only once it is told to, after its identity was written down. If we
# die before that, the pipe closes, `read` fails and nothing is left running unrecorded.
_GATE = 'read -r go || exit 1; exec "$@" < /dev/null'


class DiedError(Failure):
    """A daemon ended by itself; the text ends with the last lines of its log."""


class NeverReadyError(Failure):
    """What was waited for did not come; the text ends with the daemons' last lines."""


class SurvivorError(Failure):
    """A killed process hangs in the kernel."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process, for ever: a pid is reused, but not with the same start and boot."""

    pid: int
    started: int
    """Clock ticks from boot to the process's start: field 22 of /proc/PID/stat, proc(5)."""
    boot: str

    def alive(self) -> bool:
        """Whether this very process runs (a zombie does not)."""
        _reap(self.pid)
        stat = _stat(self.pid)
        return (
            stat is not None
            and stat.state not in {"Z", "X"}
            and stat.started == self.started
            and self.boot == boot_id()
        )


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    started: int


def boot_id() -> str:
    """The kernel's name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None when there is none."""
    stat = _stat(pid)
    return None if stat is None else Identity(pid, stat.started, boot_id())


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_stat(text)


def parse_stat(text: str) -> _Stat:
    """State and start time of a /proc/PID/stat line; the name in it may hold anything."""
    after_name = text[text.rindex(")") + 2 :].split()
    return _Stat(after_name[0], int(after_name[19]))


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not ours: another command started it


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    record: Callable[[Identity], None],
    environment: Mapping[str, str] | None = None,
) -> Identity:
    """Start a daemon in a session of its own, its output in ``log``.

    ``record`` is called before the program itself runs.
    """
    told, tell = os.pipe()
    mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _GATE, "sh", *map(str, command)],
            dict(os.environ if environment is None else environment),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, told, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), mode, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        identity = identify(pid)
        if identity is None:
            raise DiedError(f"{command[0]} ended before it began")
        record(identity)
        os.write(tell, b"go\n")
    finally:
        os.close(told)
        os.close(tell)
    return identity


def wait_for(
    what: str,
    ready: Check,
    *,
    timeout_seconds: float,
    watch: Mapping[str, Identity],
    logs: Path,
) -> None:
    """Wait until ``ready``; give up at once when a watched daemon ends.

    Raises:
        DiedError: a daemon in ``watch`` ended.
        NeverReadyError: ``ready`` stayed false.
    """
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        for name, identity in watch.items():
            if not identity.alive():
                raise DiedError(f"{name} ended while waiting for {what}\n{tail(logs, name)}")
        if time.monotonic() > deadline:
            last = "\n".join(tail(logs, name) for name in watch)
            raise NeverReadyError(f"no {what} after {timeout_seconds:.0f} s\n{last}")
        time.sleep(POLL_SECONDS)


def tail(logs: Path, name: str) -> str:
    """The last lines that the daemon ``name`` wrote."""
    log = logs / f"{name}.log"
    if not log.exists():
        return f"--- {log}: not there"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join([f"--- {log}", *lines])


def end(identities: Sequence[Identity]) -> None:
    """Kill the processes; returns when none is left.

    Nothing asks them first: of a throwaway cluster nothing is kept, and a daemon that
    tidies up before it ends takes seconds (the API server five).

    Raises:
        SurvivorError: one is still there long after it was killed.
    """
    for identity in identities:
        if identity.alive():
            _kill(identity.pid)
    deadline = time.monotonic() + KILLED_SECONDS
    while left := [identity.pid for identity in identities if identity.alive()]:
        if time.monotonic() > deadline:
            raise SurvivorError(f"killed, and still there: {left}")
        time.sleep(POLL_SECONDS)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended between the look and the signal
