"""All parts are killed, stopped, cut and slowed by a plan of a seed, and no request fails.

A campaign has a real API server, Redis, OpenBao, PostgreSQL, and all programs of the product as
processes. The short form runs with every test, always by the same plan, and an hour by a new one in
`make soak`. `CHAOS_SEED` repeats a plan, `CHAOS_SECONDS` sets the long form's length.
"""

import os
import random
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from dev import cluster
from tests.parts import applications, chaos, fault_plan, new_pods
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

SECONDS = 75
SEED = 641066673
LONGEST_FAULT_SECONDS = 5.0
SOAK_SECONDS = int(os.environ.get("CHAOS_SECONDS", "3600"))
LONGEST_SOAK_FAULT_SECONDS = 25.0
ROTATION_SECONDS = 30.0
A_SECOND = {chaos.MAIN: 94.0, chaos.SMALL: 4.0}
SEARCHES_A_SECOND = 2.0
SMALL_SHARE = 0.5
"""The small quota lasts for this share of the time."""
SPACES = {size: f"openai/{chaos.MODEL}@{size or 1536}" for size in (None, 8)}
SHOWN = 10
DENIED = frozenset({"insufficient_quota", "quota_store_unavailable"})


def load(world, *, seed):
    ports = {name: [it.sidecar.port for it in pods] for name, pods in world.pods.items()}
    return applications.Load(
        [
            applications.Application(
                name=name,
                ports=ports[name],
                a_second=A_SECOND[name],
                model=chaos.MODEL,
                spaces=SPACES,
                allowed=frozenset() if name == chaos.MAIN else DENIED,
            )
            for name in (chaos.MAIN, chaos.SMALL)
        ],
        applications.Searcher(
            port=world.search.sidecar.port,
            a_second=SEARCHES_A_SECOND,
            space="tests/small",
            may_be_refused=world.may_refuse_searches,
        ),
        seed=seed,
    )


def new_pods_of(world):
    return new_pods.NewPods(
        world.objects,
        chaos.MAIN,
        service=world.service,
        may_be_bare=world.may_leave_pods_bare,
    )


def uses_last_key(world):
    """Each sidecar is answered by a provider that takes the last key alone."""
    world.changes.revoke()
    pods = world.pods[chaos.MAIN]
    return [it.sidecar.embed(f"by the last key {it.name}").status_code for it in pods]


# CPython 3.11's ssl leaves a socket unclosed that is reset between connect and handshake.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.timeout(2 * SOAK_SECONDS + 900)
@pytest.mark.parametrize(
    ("seconds", "longest", "seed"),
    [
        pytest.param(SECONDS, LONGEST_FAULT_SECONDS, SEED, id="short"),
        pytest.param(
            *(SOAK_SECONDS, LONGEST_SOAK_FAULT_SECONDS, None), id="long", marks=pytest.mark.soak
        ),
    ],
)
def test_faults_of_all_parts_fail_no_request(seconds, longest, seed, tmp_path, say):
    seed = int(os.environ.get("CHAOS_SEED") or seed or random.SystemRandom().randrange(10**9))
    plan = fault_plan.draw(seed, chaos.KINDS, seconds=seconds, longest_seconds=longest)
    quota = int(A_SECOND[chaos.SMALL] * seconds * SMALL_SHARE)
    cluster.down_stale()
    with ExitStack() as stack:
        world = chaos.World(tmp_path, stack, small_quota=quota)
        wait(world.is_settled, "policies that are Ready", last=world.told)
        with load(world, seed=seed) as asking, new_pods_of(world) as pods:
            world.changes.begin(rotation_seconds=ROTATION_SECONDS)
            world.harms.carry_out(plan)
            over_at = time.monotonic()
            world.changes.finish()
            try:
                wait(
                    world.is_settled,
                    "last edit and key in force",
                    timeout_seconds=over_at + chaos.SETTLED_SECONDS - time.monotonic(),
                    last=world.told,
                )
            finally:
                ready_seconds = time.monotonic() - over_at
                say(told(world, plan, asking.seen, pods, ready_seconds=ready_seconds))
        seen = asking.seen
        assert uses_last_key(world) == [200] * len(world.pods[chaos.MAIN])
        billed, leaks = world.small_billed(), world.leaks()
        say(f"chaos: {billed} of {quota} calls of the small quota; keys in {len(leaks)} logs")
        assert seen.failed == []
        assert seen.mixed == []
        assert pods.bare == []
        assert billed <= quota
        assert seen.refused["insufficient_quota"], "the small quota was never used up"
        assert seen.by_provider["a"], "the provider that is harmed was never used"
        assert pods.injected
        assert len(world.harms.done) == len(plan.faults)
        assert leaks == []


def told(world, plan, seen, pods, *, ready_seconds):
    by_kind = Counter(it.kind for it in plan.faults)
    by_target = Counter(it.target for it in plan.faults)
    wrong = (
        *seen.failed[:SHOWN],
        *seen.mixed[:SHOWN],
        *(f"bare at {it:.1f} s" for it in pods.bare),
        *(world.failed_open()[-SHOWN:] if pods.bare else ()),
    )
    failed = "".join(f"\n  {it}" for it in wrong)
    return (
        f"chaos, seed {plan.seed}: {sum(seen.answered.values())} requests answered"
        f" ({dict(seen.answered)}; {seen.hits} hits; by provider {dict(seen.by_provider)}),"
        f" refused as policies say {dict(seen.refused)}; failed {len(seen.failed)}, mixed"
        f" {len(seen.mixed)}; slowest {seen.slowest_seconds:.2f} s; {len(plan.faults)} faults"
        f" {dict(by_kind)} of {dict(by_target)}; {world.changes.edits} edits,"
        f" {len(world.changes.keys)} keys; new pods: {pods.injected} with sidecar,"
        f" {pods.excused} without while no webhook could answer, {len(pods.bare)} without"
        f" otherwise, {pods.not_created} not created; operators restarted"
        f" {sum(it.restarts for it in world.replicas.values())} times; all Ready"
        f" {ready_seconds:.1f} s after the last fault{failed}"
    )
