"""Look at every policy now and then: at pods that were missed, at whatever no event told."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from embedding_operator.queues.workqueue import Key, WorkQueue

MOST_A_SECOND: Final = 10.0
"""Policies looked at for no other reason than that time went by. More than 300 at the chart's 30 s
take longer: what the API server is asked in an hour without change must not grow for ever."""


def run(
    queue: WorkQueue[Key],
    policies: Callable[[], Sequence[tuple[str, str]]],
    resync_seconds: float,
    stopping: threading.Event,
) -> None:
    """Put every policy into the queue once a period, until told to stop.

    `policies` gives namespace and name of each. One that has gone is queued by what watches.
    """
    period_seconds = resync_seconds
    while not stopping.wait(period_seconds):
        keys = [Key(*it) for it in policies()]
        period_seconds = spread(queue, keys, resync_seconds=resync_seconds)


def spread(queue: WorkQueue[Key], policies: Sequence[Key], *, resync_seconds: float) -> float:
    """Add each policy at its time in the coming period; how many seconds that is.

    The API server sees a stream and not a wave.
    """
    period_seconds = max(resync_seconds, len(policies) / MOST_A_SECOND)
    for number, policy in enumerate(policies):
        queue.add(policy, after_seconds=period_seconds * number / len(policies))
    return period_seconds
