"""Programs that tests and demo start on this machine, and end again, also after a crash."""

import dataclasses
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dev.cluster import processes

READY_SECONDS = 30
FILE = "daemons.json"
"""Which processes run for a folder."""


class Daemons:
    """The programs of one folder: their logs, and which processes they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a program and wait until `ready`; one that runs under this name already is kept."""
        running = self._recorded().get(name)
        if running is not None and running.alive():
            return
        identity = processes.spawn(
            command,
            log=self.log(name),
            record=lambda identity: self._record(name, identity),
            environment=environment,
        )
        processes.wait_for(
            name,
            ready,
            timeout_seconds=READY_SECONDS,
            watch={name: identity},
            logs=self.folder,
        )

    def stop(self, *names: str) -> None:
        """End programs by name, all without any name."""
        recorded = self._recorded()
        chosen = names or tuple(recorded)
        processes.end([recorded[name] for name in chosen if name in recorded])
        self._save({name: identity for name, identity in recorded.items() if name not in chosen})

    def pid(self, name: str) -> int:
        """The process of a program that was started."""
        return self._recorded()[name].pid

    def is_running(self, name: str) -> bool:
        """Whether a program that was started has not ended."""
        return self._recorded()[name].alive()

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.folder / f"{name}.log"

    def _record(self, name: str, identity: processes.Identity) -> None:
        self._save({**self._recorded(), name: identity})

    def _recorded(self) -> dict[str, processes.Identity]:
        if not self._file.exists():
            return {}
        raw = json.loads(self._file.read_text(encoding="utf-8"))
        return {name: processes.Identity(**identity) for name, identity in raw.items()}

    def _save(self, identities: dict[str, processes.Identity]) -> None:
        raw = {name: dataclasses.asdict(identity) for name, identity in identities.items()}
        self._file.write_text(json.dumps(raw), encoding="utf-8")


def answers(host: str, port: int) -> Callable[[], bool]:
    """A check that something accepts connections there."""

    def check() -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    return check
