"""The threads of the watches, and what they tell of themselves."""

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from embedding_operator.informers.reflector import Reflector
from embedding_operator.informers.store import Store

WAIT_SECONDS: Final = 1.0


class Watches:
    """Runs each reflector in a thread; those of other kinds wait until the `first` are listed.

    `first` has the store for the plural of each of these kinds. Owned objects and pods are kept
    only where a policy or an index is known.
    """

    def __init__(self, reflectors: Sequence[Reflector], *, first: Mapping[str, Store]) -> None:
        self._reflectors = reflectors
        self._first = first
        self._threads: dict[Reflector, threading.Thread] = {}

    def start(self, stopping: threading.Event) -> None:
        """Watch until stopped."""
        for reflector in self._reflectors:
            thread = threading.Thread(
                target=self._run,
                args=(reflector, stopping),
                name=f"watch-{reflector.name}",
                daemon=True,
            )
            self._threads[reflector] = thread
            thread.start()

    def deaf(self) -> str | None:
        """A kind whose watch has ended or is stuck, so that the process should be restarted."""
        return next((it.name for it in self._threads if not self._is_running(it)), None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The plurals of the watched kinds."""
        return tuple(dict.fromkeys(it.name for it in self._reflectors))

    def is_watching(self, kind: str) -> bool:
        """True if the watch of a kind runs and is not stuck."""
        return all(self._is_running(it) for it in self._reflectors if it.name == kind)

    def _is_running(self, reflector: Reflector) -> bool:
        thread = self._threads.get(reflector)
        return thread is not None and thread.is_alive() and not reflector.is_stuck()

    def hears(self, kind: str) -> bool:
        """True if changes of a kind arrive: its watch runs, and the API server allows it."""
        heard = all(it.hears() for it in self._reflectors if it.name == kind)
        return heard and self.is_watching(kind)

    def silent_seconds(self, kind: str) -> float:
        """The time since the API server last said anything by the watch of a kind."""
        return max(it.silent_seconds() for it in self._reflectors if it.name == kind)

    def _run(self, reflector: Reflector, stopping: threading.Event) -> None:
        if reflector.name not in self._first:
            for store in self._first.values():
                while not store.wait(WAIT_SECONDS) and not stopping.is_set():
                    reflector.rest()
        reflector.run(stopping)
