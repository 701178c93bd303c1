"""The operator of many pods: its requests to sidecars and to the API server.

As in a round of `make scale`, kwok plays kubelet and one process the sidecars.
"""

import time
from pathlib import Path
from typing import Final

from tests.parts import charted, estate
from tests.parts.installation import wait
from tests.scale import edits, generator, pods
from tests.scale.figures import HOUR_SECONDS, of_lease
from tests.scale.machine import MIB
from tests.scale.model import formulas
from tests.scale.model.formulas import POLICY_PODS
from tests.scale.rounds import COLD_SECONDS, Readiness
from tests.scale.sidecars import COUNTED_SECONDS

NAMESPACE_POLICIES: Final = 25
SETTLE_SECONDS: Final = 30
"""Events of the start, and the last writes of an edit, come after it."""
IDLE_SECONDS: Final = 90
NUDGES: Final = "patch pods/status"


def generator_of(count: int) -> generator.Generator:
    """The size of a run with so many pods."""
    policies = count // POLICY_PODS
    return generator.Generator(
        name=f"pods-{count}",
        policies=policies,
        namespaces=-(-policies // NAMESPACE_POLICIES),
        secrets_of_each=0,
        pods_of_each=POLICY_PODS,
        idle_seconds=IDLE_SECONDS,
        edits_per_second=0,
        edit_seconds=0,
        rounds=1,
    )


def measure(wanted: generator.Generator, folder: Path) -> dict[str, dict[int, float]]:
    """All quantities of so many pods, on a control plane of their own."""
    with estate.standing(
        folder, policies=wanted.policies, namespaces=wanted.namespaces, secrets_per_policy=0
    ) as (built, operator):
        played = pods.Pods(built, folder / "pods", pods_of_each=wanted.pods_of_each)
        try:
            found = _measure(built, operator, played)
        finally:
            played.stop()
    return {name: {wanted.pods: value} for name, value in found.items()}


def _measure(
    built: estate.Estate, operator: charted.Operator, played: pods.Pods
) -> dict[str, float]:
    played.enable()
    operator.start(LEADER_ELECTION="true")
    _wait_until_ready(built)
    played.start()
    time.sleep(SETTLE_SECONDS)
    api, spent = built.api_asked(), operator.processor_seconds()
    asked, began = played.asked(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    idle_cores = (operator.processor_seconds() - spent) / seconds
    resident_mib = operator.resident_bytes() / MIB
    idle = built.api_asked().since(api)
    idle_asks = (played.asked() - asked) / seconds
    editor = edits.Editor(built)
    asked, api, began = played.asked(), built.api_asked(), time.monotonic()
    in_force_seconds = played.edit_all(editor)
    editor.close()
    # Each pod is asked again after 24 s, at the earliest.
    time.sleep(2 * COUNTED_SECONDS)
    since_edit = time.monotonic() - began
    of_quota = formulas.quota_asks_a_second(len(built.policies)) * since_edit
    edit_asks = played.asked() - asked - of_quota
    time.sleep(SETTLE_SECONDS)
    edited = built.api_asked().since(api)
    return {
        "idleAsks": idle_asks,
        "idleRequests": (idle.total - of_lease(idle.counts)) * HOUR_SECONDS / seconds,
        "editAsks": edit_asks,
        "editNudges": edited.counts.get(NUDGES, 0),
        "editRequests": edited.total - of_lease(edited.counts),
        "editSeconds": in_force_seconds,
        "idleCores": idle_cores,
        "residentMiB": resident_mib,
    }


def _wait_until_ready(built: estate.Estate) -> None:
    ready = Readiness(built.asked.kubeconfig)
    try:
        wait(
            lambda: ready.count() == len(built.policies),
            "all policies Ready",
            timeout_seconds=COLD_SECONDS,
            last=lambda: f"{ready.count()} of {len(built.policies)}",
        )
    finally:
        ready.close()
