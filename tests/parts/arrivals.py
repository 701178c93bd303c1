"""Watches of a test: when which objects came to hold what."""

import base64
import http.client
import threading
import time
import urllib.parse
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import direct

KEY: Final = "TOKEN"
"""The key of each synced Secret of an estate."""
OURS: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
"""Selects the operator's objects."""

Place = tuple[str, str]
"""Namespace and name of an object; or namespace and the rest of a path of Vault."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A value came to an object."""

    value: str
    at: float
    """By time.monotonic()."""


class Watch(ABC):
    """A watch of all objects of a kind as a cluster administrator, from now on."""

    def __init__(self, kubeconfig: Path, kind: kinds.Kind, *, selector: str = "") -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._last: dict[Place, Arrival] = {}
        self._connection = direct.Direct(kubeconfig)
        query = urllib.parse.urlencode({"watch": 1, "labelSelector": selector})
        self._path = f"{kind.path(None)}?{query}"
        self._version = 0
        # Begun here: a connection that is not there yet could not be cut.
        self._lines = self._connection.lines(self._path)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @abstractmethod
    def value_of(self, found: direct.Object) -> str | None:
        """The part of an object that is waited for; None while it is not there."""

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        self._connection.cut()
        self._thread.join()
        self._connection.close()

    def last(self) -> dict[Place, Arrival]:
        """The newest value of each object that has one."""
        with self._changed:
            return dict(self._last)

    def count(self) -> int:
        """The number of objects that have a value."""
        with self._changed:
            return len(self._last)

    def wait(self, place: Place, value: str, *, timeout_seconds: float) -> float:
        """When this value came, which is waited for.

        Raises:
            AssertionError: it did not in time.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                found = self._last.get(place)
                if found is not None and found.value == value:
                    return found.at
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{place} holds {found}, not {value}, in time")

    def _read(self) -> None:
        try:
            while not self._closed:
                for line in self._lines:
                    self._note(line["type"], line["object"])
                    version = int(line["object"]["metadata"]["resourceVersion"])
                    # The objects that are there at first come in no order.
                    self._version = max(self._version, version)
                if not self._closed:
                    # The API server ends a watch that reads too slowly.
                    resumed = f"{self._path}&resourceVersion={self._version}"
                    self._lines = self._connection.lines(resumed)
        except (OSError, http.client.HTTPException):
            if not self._closed:
                raise

    def came(  # noqa: B027 - most watches only wait
        self, place: Place, value: str | None, found: direct.Object
    ) -> None:
        """Called as the value of an object changes, by one thread; None once it has gone."""

    def _note(self, event: str, found: direct.Object) -> None:
        value = None if event == "DELETED" else self.value_of(found)
        at = time.monotonic()
        metadata = found["metadata"]
        place = metadata["namespace"], metadata["name"]
        with self._changed:
            before = self._last.get(place)
            if value == (before and before.value):
                return
            if value is None:
                self._last.pop(place, None)
            else:
                self._last[place] = Arrival(value, at)
            self._changed.notify_all()
        self.came(place, value, found)


class Arrivals(Watch):
    """The values of Vault in the operator's Secrets."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig, kinds.SECRET, selector=OURS)

    def value_of(self, found: direct.Object) -> str | None:
        """The value under KEY."""
        value = (found.get("data") or {}).get(KEY)
        return None if value is None else base64.b64decode(value).decode()
