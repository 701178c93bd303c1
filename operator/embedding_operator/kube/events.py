"""Events for `kubectl describe`: recorded when a condition changes, never per reconcile."""

import logging
import queue
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final, Self

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.conditions import Condition

_LOG = logging.getLogger(__name__)
MESSAGE_CHARACTERS: Final = 1024  # the API server's limit for an event's message
MOST_WAITING: Final = 10_000
"""Events that wait to be written; each takes some 2 KiB of memory."""


class EventRecorder:
    """Writes events in a thread of its own, one after the other: no reconcile waits for one.

    Nothing depends on an event, so one that cannot be written, or finds MOST_WAITING before it, is
    logged and dropped.
    """

    def __init__(self, *, objects: KubeClient) -> None:
        self._objects = objects
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._writing = threading.Thread(target=self._write, name="events", daemon=True)

    def start(self) -> Self:
        """Write from now on."""
        self._writing.start()
        return self

    def close(self, *, within_seconds: float) -> None:
        """Write those that wait, as far as the time suffices."""
        if self._writing.is_alive():
            ends_at = time.monotonic() + within_seconds
            try:
                self._waiting.put(None, timeout=within_seconds)
            except queue.Full:
                return
            self._writing.join(max(0.0, ends_at - time.monotonic()))

    def record(self, about: dict[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """Record an event of an object, to be written soon."""
        metadata = about["metadata"]
        now = datetime.now(UTC)
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata.get("uid", ""),
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:MESSAGE_CHARACTERS],
            "source": {"component": names.MANAGED_BY},
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "count": 1,
        }
        try:
            self._waiting.put_nowait(body)
        except queue.Full:
            _not_written(body, f"{MOST_WAITING} others wait")

    def record_condition(self, about: dict[str, Any], condition: Condition) -> None:
        """An event of a condition that has changed."""
        self.record(
            about,
            warning=condition.is_bad,
            reason=condition.reason,
            message=f"{condition.type}={condition.status}: {condition.message}",
        )

    def _write(self) -> None:
        while (body := self._waiting.get()) is not None:
            try:
                self._objects.create(kinds.EVENT, body["metadata"]["namespace"], body)
            except errors.OperatorError as error:
                # A namespace that is being deleted takes no events.
                _not_written(body, error)
            except Exception:  # noqa: BLE001 - without the thread there are no events
                _LOG.exception("an event was not written")


def _not_written(body: dict[str, Any], why: object) -> None:
    name = body["involvedObject"]["name"]
    _LOG.info("event %s of %s not written: %s", body["reason"], name, why)
