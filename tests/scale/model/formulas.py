"""The model of many pods: what they ask of one Redis, and the operator of them. Pure.

A formula takes its constants from the sidecar's and the operator's own code, or from sizes that
were measured for it (`fits`), which are not those that it is checked at.
"""

import math
from collections.abc import Mapping
from typing import Final

from embedding_operator.sidecars import pace, watchlist
from embedding_sidecar.cache import entry_encoding
from embedding_sidecar.cache.cache_entry import Entry
from embedding_sidecar.policy import current_policy
from embedding_sidecar.quota import quota_store, share
from embedding_sidecar.quota.periods import DAY
from embedding_sidecar.rate import draws

Values = Mapping[str, Mapping[int, float]]
"""Measured values of a quantity, by size."""

MODEL, SPACE = "text-embedding-3-small", "openai/text-embedding-3-small@1536"
POLICY_PODS: Final = 10
"""Pods of a policy, as in the runs of pods."""
RESYNC_SECONDS: Final = 30.0
"""The chart's default."""
HOUR_SECONDS: Final = 3600
_MEAN_JITTER: Final = 0.9
"""`pace` waits 0.8 to 1.0 of a period."""
_STRING_HEADER_BYTES: Final = 6
"""Of a string of 256 bytes to 64 KiB in Redis, with the byte that ends it."""
CLAIM_FITS: Final = (2, 48, 200)
MESSAGE_FIT: Final = 10
VECTOR_FITS: Final = (512,)
POD_FITS: Final = (200, 1_000)


def claims_of_call(calls_a_second: float) -> float:
    """Claims for each call of a pod whose calls come at random (Poisson).

    A claim serves calls until its grant is spent or a pause is longer than share.IDLE_SECONDS;
    after each such pause one more claim has returned the rest.
    """
    pause = math.exp(-share.IDLE_SECONDS * calls_a_second)
    served = sum((1 - pause) ** number for number in range(DAY.grant_calls))
    return 1 / served + pause


def draws_of_call(calls_a_second: float) -> float:
    """Messages for each call with a rate of tokens: its draw, and the return of unused tokens.

    The return goes with the next draw, or alone after draws.RETURN_SECONDS.
    """
    return 1 + math.exp(-draws.RETURN_SECONDS * calls_a_second)


def claims_of_pod(calls_a_second: float) -> float:
    """Claims of a pod a second: for its calls, and its report of each QUOTA_SECONDS."""
    return calls_a_second * claims_of_call(calls_a_second) + 1 / current_policy.QUOTA_SECONDS


def claims_a_second(pods: float, *, calls_a_second: float, policy_pods: int = POLICY_PODS) -> float:
    """Claims of all pods, with those for the operator's looks at each policy's quota."""
    looks = quota_asks_a_second(pods / policy_pods)
    return pods * claims_of_pod(calls_a_second) + looks


def quota_asks_a_second(policies: float) -> float:
    """Requests to sidecars for the live quota: one of each policy in its period."""
    return policies / pace.quota(policies, period_seconds=watchlist.QUOTA_SECONDS)


def claim_microseconds(values: Values, leases: int) -> float:
    """Of one claim, in a policy of so many pods: up to MAX_SUMMED leases are added up."""
    name = "claimMicroseconds"
    if leases > quota_store.MAX_SUMMED:
        return values[name][CLAIM_FITS[-1]]
    return _line(values[name], *CLAIM_FITS[:2], leases)


def allocated(size: int) -> int:
    """Bytes that jemalloc gives for a size: four classes between two powers of two."""
    if size <= 128:
        return -(-size // 16) * 16
    spacing = int(2 ** (math.ceil(math.log2(size)) - 3))
    return -(-size // spacing) * spacing


def value_bytes(dimensions: int) -> int:
    """Of an entry in Redis, as the allocator gives them."""
    empty = Entry(MODEL, SPACE, b"", 8, 0.0)
    head = entry_encoding.encode(empty, key="", seal=entry_encoding.Seal())
    return allocated(len(head) + 4 * dimensions + _STRING_HEADER_BYTES)


def item_bytes(values: Values, dimensions: int) -> float:
    """Of one cached item: its value, and the same for key, tables and object of each."""
    (fit,) = VECTOR_FITS
    return values["vectorBytes"][fit] - value_bytes(fit) + value_bytes(dimensions)


def idle_asks_a_second(pods: int) -> float:
    """Requests to sidecars: each pod in its period, and one of each policy for the live quota."""
    period = max(RESYNC_SECONDS, pods / pace.MOST_A_SECOND) * _MEAN_JITTER
    return pods / period + quota_asks_a_second(pods / POLICY_PODS)


def edit_asks(values: Values, pods: int) -> float:
    """Requests to sidecars until an edit of all policies is in force in all pods.

    A sidecar is asked once its pod was nudged, and again while the pod is still behind.
    """
    return max(pods, _line(values["editAsks"], *POD_FITS, pods))


def idle_cores(values: Values, pods: int) -> float:
    """Cores of the operator while nothing changes: some for itself, and some for each request."""
    low, high = (idle_asks_a_second(it) for it in POD_FITS)
    of_low, of_high = (values["idleCores"][it] for it in POD_FITS)
    of_each = (of_high - of_low) / (high - low)
    return of_low + of_each * (idle_asks_a_second(pods) - low)


def resident_mib(values: Values, pods: int) -> float:
    """Memory of the operator with so many pods, and their policies."""
    return _line(values["residentMiB"], *POD_FITS, pods)


def _line(found: Mapping[int, float], low: int, high: int, size: float) -> float:
    """The straight line through two measured sizes."""
    of_each = (found[high] - found[low]) / (high - low)
    return found[low] + of_each * (size - low)
