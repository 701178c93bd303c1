"""Queue every policy periodically, for changes that no event announced."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from embedding_operator.queues.workqueue import Key, WorkQueue

MOST_A_SECOND: Final = 10.0
"""Policies queued per second by the resync alone. Above 300 at the chart's 30 s a round takes
longer, so that requests to the API server without a change stay bounded."""


def run(
    queue: WorkQueue[Key],
    policies: Callable[[], Sequence[tuple[str, str]]],
    resync_seconds: float,
    stopping: threading.Event,
) -> None:
    """Put every policy into the queue once a period, until told to stop.

    `policies` returns namespace and name of each. The watch queues a deleted one.
    """
    period_seconds = resync_seconds
    while not stopping.wait(period_seconds):
        keys = [Key(*it) for it in policies()]
        period_seconds = spread(queue, keys, resync_seconds=resync_seconds)


def spread(queue: WorkQueue[Key], policies: Sequence[Key], *, resync_seconds: float) -> float:
    """Add the policies evenly over the coming period; its length in seconds."""
    period_seconds = max(resync_seconds, len(policies) / MOST_A_SECOND)
    for number, policy in enumerate(policies):
        queue.add(policy, after_seconds=period_seconds * number / len(policies))
    return period_seconds
