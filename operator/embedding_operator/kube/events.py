"""Events for `kubectl describe`: recorded when a condition changes, never per reconcile."""

import logging
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.conditions import Condition

_LOG = logging.getLogger(__name__)
MESSAGE_CHARACTERS: Final = 1024  # the API server's limit for an event's message


class EventRecorder:
    """Writes events; one that cannot be written is logged and dropped."""

    def __init__(self, *, objects: KubeClient) -> None:
        self._objects = objects

    def record(self, about: dict[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """Record an event of an object."""
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
            self._objects.create(kinds.EVENT, metadata["namespace"], body)
        except errors.OperatorError as error:
            # A namespace that is being deleted takes no events; nothing depends on one.
            _LOG.info("event %s of %s not written: %s", reason, metadata["name"], error)

    def record_condition(self, about: dict[str, Any], condition: Condition) -> None:
        """An event of a condition that has changed."""
        self.record(
            about,
            warning=condition.is_bad,
            reason=condition.reason,
            message=f"{condition.type}={condition.status}: {condition.message}",
        )
