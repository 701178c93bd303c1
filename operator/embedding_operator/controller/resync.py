"""Queue every policy periodically, for changes that no event announced."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.workqueue import WorkQueue

MOST_A_SECOND: Final = 5.0
"""Policies queued per second by the resync alone. Above 150 at the chart's 30 s a round takes
longer, so that the work without a change stays bounded, however many policies there are."""


def run(
    queue: WorkQueue[ObjectKey],
    policies: Callable[[], Sequence[ObjectKey]],
    resync_seconds: float,
    stopping: threading.Event,
) -> None:
    """Put every policy into the queue once a period, until told to stop.

    `policies` returns namespace and name of each. The watch queues a deleted one.
    """
    period_seconds = resync_seconds
    while not stopping.wait(period_seconds):
        period_seconds = spread(queue, policies(), resync_seconds=resync_seconds)


def spread(
    queue: WorkQueue[ObjectKey], policies: Sequence[ObjectKey], *, resync_seconds: float
) -> float:
    """Add the policies evenly over the coming period; its length in seconds."""
    period_seconds = max(resync_seconds, len(policies) / MOST_A_SECOND)
    for number, policy in enumerate(policies):
        queue.add(policy, after_seconds=period_seconds * number / len(policies), of_round=True)
    return period_seconds
