"""New pods of a policy, one a second, and whether each comes out with a sidecar."""

import threading
import time
from typing import Any, Final, Self

from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from tests.parts import admitting
from tests.parts.harms import Harms
from tests.parts.service import Service

WEBHOOK: Final = "webhook"
"""The target of faults between API server and Service."""
_POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "new-", "labels": {"app": "x"}},
    "spec": {"containers": [admitting.CONTAINER]},
}


class NewPods:
    """Pods that are created in dry runs, until the end of the context.

    One may be bare while the webhook's way is harmed, or its Service leads to nobody that is ready.
    `bare` has the others, by their seconds since the beginning.
    """

    def __init__(
        self, objects: KubeClient, namespace: str, *, service: Service, harms: Harms
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._service = service
        self._harms = harms
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
            was_sound = self._service.is_sound()
            try:
                made = self._objects.dry_run(kinds.POD, self._namespace, _POD)
            except errors.Unavailable:  # the API server is harmed
                self.not_created += 1
                continue
            if admitting.sidecars(made):
                self.injected += 1
            elif (
                was_sound
                and self._service.is_sound()
                and not self._harms.touch(WEBHOOK, since=asked_at)
            ):
                self.bare.append(asked_at - began)
            else:
                self.excused += 1
