"""New pods of a policy, one a second, and whether each comes out with a sidecar."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Self

from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from tests.parts import admitting
from tests.parts.service import Service

_POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "new-", "labels": {"app": "x"}},
    "spec": {"containers": [admitting.CONTAINER]},
}


class NewPods:
    """Pods that are created in dry runs, until the end of the context.

    One may be bare if its Service leads to a replica that is not ready, or `may_be_bare` says so of
    the time since a moment. `bare` has the others, by their seconds since the beginning.
    """

    def __init__(
        self,
        objects: KubeClient,
        namespace: str,
        *,
        service: Service,
        may_be_bare: Callable[[float], bool],
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._service = service
        self._may_be_bare = may_be_bare
        self.injected = self.excused = self.not_created = 0
        self.bare: list[float] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ending.wait(1.0):
            asked_at = time.monotonic()
            sound = self._service.sound()
            try:
                made = self._objects.dry_run(kinds.POD, self._namespace, _POD)
            except errors.Unavailable:  # the API server is harmed
                self.not_created += 1
                continue
            if admitting.sidecars(made):
                self.injected += 1
            elif sound and all(it.is_ready() for it in sound) and not self._may_be_bare(asked_at):
                self.bare.append(asked_at - began)
            else:
                self.excused += 1
