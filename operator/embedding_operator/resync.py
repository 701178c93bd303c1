"""Look at every policy now and then: at pods that were missed, at whatever no event told."""

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol

from embedding_operator import cluster, errors
from embedding_operator.workqueue import Key, WorkQueue

_LOG = logging.getLogger(__name__)

MOST_A_SECOND: Final = 10.0
"""Policies looked at for no other reason than that time went by. More than 300 at the chart's 30 s
take longer: what the API server is asked in an hour without change must not grow for ever."""


class Finds(Protocol):
    """Lists objects of the cluster."""

    def find(self, kind: cluster.Kind, namespace: str | None = None) -> list[dict[str, Any]]:
        """All objects of a kind."""
        ...


def run(
    queue: WorkQueue[Key], objects: Finds, resync_seconds: float, stopping: threading.Event
) -> None:
    """Put every policy into the queue once a period, until told to stop.

    And once more one that has gone since the last time, of which no watch may have told: whoever
    does something for a policy, as look at Vault, learns from its reconcile that it need not.
    """
    period_seconds = resync_seconds
    before: frozenset[Key] = frozenset()
    while not stopping.wait(period_seconds):
        try:
            found = objects.find(cluster.POLICY)
        except errors.OperatorError as error:
            _LOG.warning("resync: %s", error)
            continue
        except Exception:  # noqa: BLE001 - nothing else finds the pods that were missed
            _LOG.exception("resync failed")
            continue
        policies = [Key(it["metadata"]["namespace"], it["metadata"]["name"]) for it in found]
        for gone in before.difference(policies):
            queue.add(gone)
        before = frozenset(policies)
        period_seconds = spread(queue, policies, resync_seconds=resync_seconds)


def spread(queue: WorkQueue[Key], policies: Sequence[Key], *, resync_seconds: float) -> float:
    """Add each policy at its time in the coming period; how many seconds that is.

    The API server sees a stream and not a wave.
    """
    period_seconds = max(resync_seconds, len(policies) / MOST_A_SECOND)
    for number, policy in enumerate(policies):
        queue.add(policy, after_seconds=period_seconds * number / len(policies))
    return period_seconds
