"""The time until a pod is asked again: pure."""

import random
from typing import Final

MOST_A_SECOND: Final = 100.0
"""Pods asked per second without any change."""
FIRST_LOOK_SECONDS: Final = 0.3
"""The time until a pod is asked after its nudge: kubelet takes about 0.2 s."""
LATE_SECONDS: Final = 0.5
PATIENCE: Final = 5
"""The interval grows to a fifth of the time that a pod has been behind since its nudge."""
LAST_LATE_SECONDS: Final = 30.0
MOST_QUOTAS_A_SECOND: Final = 50.0
"""Pods asked per second for the live quota of their policy."""
FIRST_BACKOFF_SECONDS: Final = 1.0
LAST_BACKOFF_SECONDS: Final = 300.0


def after_failures(failures: int) -> float:
    """Seconds until a pod that failed so many times in a row is asked again."""
    doubled: float = FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(doubled, LAST_BACKOFF_SECONDS) * _jitter()


def while_late(waited_seconds: float, *, is_nudged: bool) -> float:
    """Seconds until a pod that has been behind for so long is asked again.

    Before its nudge it changes by kubelet's own period only, and is asked for that.
    """
    if not is_nudged:
        return LAST_LATE_SECONDS
    return min(max(LATE_SECONDS, waited_seconds / PATIENCE), LAST_LATE_SECONDS)


def quota(policies: float, *, period_seconds: float) -> float:
    """Seconds until the live quota of a policy, one of so many, is asked for again."""
    return max(period_seconds, policies / MOST_QUOTAS_A_SECOND)


def in_force(pods: int, *, period_seconds: float) -> float:
    """Seconds until a pod that is up to date, one of so many, is asked again."""
    return max(period_seconds, pods / MOST_A_SECOND) * _jitter()


def _jitter() -> float:
    """Spread pods that were asked together."""
    return random.uniform(0.8, 1.0)  # noqa: S311 - no secret
