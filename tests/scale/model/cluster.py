"""A cluster of any number of pods by the formulas: its load, and the sizes at which a limit breaks.

One Redis holds the cache of all and counts. Pure.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from embedding_operator.sidecars import pace, watchlist
from embedding_sidecar.policy import current_policy
from embedding_sidecar.rate import window, window_store
from tests.scale.machine import GIB
from tests.scale.model import formulas
from tests.scale.model.formulas import POLICY_PODS, RESYNC_SECONDS, Values
from tests.scale.model.quantities import QUANTITIES

TEXTS_OF_POD: Final = 1_000
"""Texts that a pod brings, of those that are kept at a time."""
DIMENSIONS: Final = 1_536
MAX_CLIENTS: Final = 10_000
"""Redis's default of `maxclients`."""
MEMORY_GIB: Final = 64
CHART_LIMIT_MIB: Final = 512
"""`resources.limits.memory` of the chart."""
MICROSECONDS: Final = 1e6
MOST_PODS: Final = 10**9
"""No figure is looked for beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Pods in policies of `policy_pods` each; each pod has so many calls a second on average.

    Each call is of a new text: one look-up and one write of its vector.
    """

    values: Values
    pods: float
    calls_a_second: float = 1.0
    policy_pods: int = POLICY_PODS

    @property
    def claims_a_second(self) -> float:
        """Grants, and reports of what was spent."""
        return formulas.claims_a_second(
            self.pods, calls_a_second=self.calls_a_second, policy_pods=self.policy_pods
        )

    @property
    def claim_cores(self) -> float:
        """Cores of Redis for them."""
        cost = formulas.claim_microseconds(self.values, self.policy_pods)
        return self.claims_a_second * cost / MICROSECONDS

    @property
    def draw_cores(self) -> float:
        """Cores of Redis where each policy has a rate."""
        cost = self._cost("messageMicroseconds")
        draws = self.calls_a_second * formulas.draws_of_call(self.calls_a_second)
        return self.pods * draws * cost / MICROSECONDS

    @property
    def poll_cores(self) -> float:
        """Cores of Redis for looks at the generations."""
        cost = self._cost("pollMicroseconds")
        return self.pods / current_policy.GENERATIONS_SECONDS * cost / MICROSECONDS

    @property
    def item_cores(self) -> float:
        """Cores of Redis for look-ups and writes."""
        cost = self._cost("readMicroseconds") + self._cost("writeMicroseconds")
        return self.pods * self.calls_a_second * cost / MICROSECONDS

    @property
    def cores(self) -> float:
        """Cores of Redis without a rate."""
        return self.claim_cores + self.poll_cores + self.item_cores

    @property
    def connections(self) -> float:
        """Connections of all sidecars."""
        return self._cost("connections") * self.pods

    @property
    def items(self) -> float:
        """Cached items."""
        return self.pods * TEXTS_OF_POD

    @property
    def item_gib(self) -> float:
        """Memory of them."""
        return self.items * formulas.item_bytes(self.values, DIMENSIONS) / GIB

    def _cost(self, name: str) -> float:
        return QUANTITIES[name].model(self.values, 1)


def pods_of_core(
    values: Values, *, calls_a_second: float, policy_pods: int = POLICY_PODS, has_rate: bool = False
) -> int:
    """Pods whose claims, and draws of a rate, fill one core of Redis."""

    def cores(pods: int) -> float:
        them = Cluster(
            values=values, pods=pods, calls_a_second=calls_a_second, policy_pods=policy_pods
        )
        return them.claim_cores + (them.draw_cores if has_rate else 0.0)

    return _reached(cores, 1)


def most_pods_of_window() -> int:
    """Pods of one policy with a rate beyond which Redis's script refuses: too many fields."""
    return window_store._MAX_FIELDS - window.WINDOW_MS // window.BUCKET_MS - 1


def limits(values: Values) -> list[tuple[str, float]]:
    """Each limit and the number of pods that reaches it, at one call a second, least first."""
    found = [*_of_redis(values), *_of_operator(values)]
    return sorted(found, key=lambda it: it[1])


def _of_redis(values: Values) -> list[tuple[str, float]]:
    if not {"claimMicroseconds", "connections"} <= values.keys():
        return []
    one = Cluster(values=values, pods=1)

    def cores(pods: int) -> float:
        return Cluster(values=values, pods=pods).cores

    return [
        (f"{MAX_CLIENTS:,} connections, the default of Redis", MAX_CLIENTS / one.connections),
        (
            f"{MEMORY_GIB} GiB of Redis, {TEXTS_OF_POD:,} texts of each pod",
            MEMORY_GIB / one.item_gib,
        ),
        ("one core of Redis, all of it", _reached(cores, 1)),
        (
            "one core of Redis, all of it with a rate",
            _reached(lambda pods: cores(pods) + pods * one.draw_cores, 1),
        ),
        ("fields of one window, one policy with a rate for all", most_pods_of_window()),
    ]


def _of_operator(values: Values) -> list[tuple[str, float]]:
    often = f"each sidecar asked in {RESYNC_SECONDS:.0f} s, beyond it less often"
    quotas = f"each live quota asked in {watchlist.QUOTA_SECONDS:.0f} s, beyond it less often"
    policies = pace.MOST_QUOTAS_A_SECOND * watchlist.QUOTA_SECONDS
    found = [
        (often, pace.MOST_A_SECOND * RESYNC_SECONDS),
        (quotas, policies * POLICY_PODS),
    ]
    if set(formulas.POD_FITS) <= values.get("residentMiB", {}).keys():
        mib = partial(formulas.resident_mib, values)
        limit = f"the chart's {CHART_LIMIT_MIB}Mi of the operator"
        found.append((limit, _reached(mib, CHART_LIMIT_MIB)))
    return found


def _reached(of: Callable[[int], float], most: float) -> int:
    """The number of pods with which a figure that grows with them reaches `most`."""
    return bisect.bisect_left(range(MOST_PODS), most, key=of)
