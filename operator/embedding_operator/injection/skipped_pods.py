"""Events about pods that got no sidecar, bounded for each namespace.

Anyone may send a review, unless client certificates are required. So an event is about a watched
policy or namespace and quotes only a checked name of the pod's owner, and each namespace has a
limited number of events.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from embedding_operator.kube.events import EventRecorder

PERIOD_SECONDS: Final = 600.0
"""An event is written once in this time."""
MOST_OF_A_NAMESPACE: Final = 8
"""Events in that time."""
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_KIND: Final = re.compile(r"[A-Za-z]{1,63}")

Object = Mapping[str, Any]


class SkippedPods:
    """Records the events."""

    def __init__(
        self, *, events: EventRecorder, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._events = events
        self._clock = clock
        self._since = clock()
        self._told: dict[str, set[tuple[str, str, str]]] = {}

    def skipped(self, about: Object, *, pod: Object, reason: str, message: str) -> None:
        """A pod was skipped; `about` is a policy or the namespace, as it was last seen."""
        metadata = about["metadata"]
        if not metadata.get("uid"):
            return  # an unknown namespace
        namespace = metadata.get("namespace") or metadata["name"]
        owner = _owner(pod)
        if not self._is_due(namespace, (metadata["uid"], reason, owner)):
            return
        target = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "metadata": {"name": metadata["name"], "namespace": namespace, "uid": metadata["uid"]},
        }
        text = f"{owner}: no embedding sidecar: {message}"
        self._events.record(target, warning=True, reason=f"EmbeddingSidecar{reason}", message=text)

    def _is_due(self, namespace: str, event: tuple[str, str, str]) -> bool:
        if self._clock() - self._since >= PERIOD_SECONDS:
            self._since = self._clock()
            self._told.clear()
        told = self._told.setdefault(namespace, set())
        if event in told or len(told) >= MOST_OF_A_NAMESPACE:
            return False
        told.add(event)
        return True


def _owner(pod: Object) -> str:
    """Kind and name of the pod's controller in the review, if they have a valid form."""
    for reference in pod["metadata"].get("ownerReferences") or ():
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        if reference.get("controller") and _KIND.fullmatch(kind) and _NAME.fullmatch(name):
            return f"{kind} {name}"
    return "a pod"
