"""How soon a pod is asked again: pure."""

import random
from typing import Final

MOST_A_SECOND: Final = 100.0
"""Pods asked for no other reason than that time went by."""
FIRST_LOOK_SECONDS: Final = 0.3
"""What a pod has in force is asked this soon after it changed: kubelet takes about 0.2 s."""
LATE_SECONDS: Final = 0.5
PATIENCE: Final = 5
"""A pod that has been behind for long is asked at each fifth of that time."""
LAST_LATE_SECONDS: Final = 30.0
FIRST_BACKOFF_SECONDS: Final = 1.0
LAST_BACKOFF_SECONDS: Final = 300.0


def after_failures(failures: int) -> float:
    """Seconds to wait for one that did not answer, so many times in a row."""
    doubled: float = FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(doubled, LAST_BACKOFF_SECONDS) * _jitter()


def while_late(waited_seconds: float) -> float:
    """Seconds to wait for one that has not had in force what it should for so long."""
    return min(max(LATE_SECONDS, waited_seconds / PATIENCE), LAST_LATE_SECONDS)


def in_force(pods: int, *, period_seconds: float) -> float:
    """Seconds to wait for one that has in force what it should, where so many pods are asked."""
    return max(period_seconds, pods / MOST_A_SECOND) * _jitter()


def _jitter() -> float:
    """So that pods which were asked together do not stay together."""
    return random.uniform(0.8, 1.0)  # noqa: S311 - no secret
