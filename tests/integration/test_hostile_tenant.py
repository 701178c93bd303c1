"""A tenant with every right in its own namespace and the network of a pod harms only itself.

One attack of a seed against one victim: the real operator with the chart's roles, a real API
server, a real sidecar with Redis. The short form runs with every test, the long one in `make soak`.
"""

import gc
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import cluster
from tests.parts import charted, hostile, secrecy, tenant, victim
from tests.parts.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

MIB = 1024**2
OPERATOR_BYTES = 512 * MIB
SIDECAR_BYTES = 384 * MIB
"""The limits of the chart's values."""
PROBE_SECONDS = 5.0
FAILURES_IN_A_ROW = 3
"""As kubelet counts, by the chart's probes."""
THREADS = 6


class World:
    """A cluster of its own, with the operator on it as a process."""

    def __init__(self, asked: Kubectl, folder: Path) -> None:
        self.asked = asked
        self.folder = folder
        self.network = hostile.Network()
        charted.install(asked, {"resyncSeconds": 2, "injection": {"by": "webhook"}})
        self.operator = charted.Operator(asked, folder / "operator")
        self.victim = victim.Victim(asked, self.network, folder)
        self.failures = 0
        self.most_failures = 0

    def begin(self) -> None:
        charted.lead_admission(self.asked, self.port("WEBHOOK_PORT"))
        self.operator.start()
        trusted = ("get", "mutatingwebhookconfiguration", "-o", "yaml")
        self.victim.wait(lambda: "caBundle" in self.asked(*trusted), "trusted authority")
        self.victim.settle()
        self.victim.begin()

    def end(self) -> None:
        self.victim.end()
        self.operator.stop()
        self.network.close()

    def port(self, name: str) -> int:
        return int(self.operator._environment[name])

    def probe(self) -> None:
        """Liveness of operator and sidecar, as kubelet looks at it."""
        urls = (
            f"http://127.0.0.1:{self.port('HEALTH_PORT')}/healthz",
            f"http://127.0.0.1:{self.victim.sidecar.admin_port}/healthz/live",
        )
        for url in urls:
            try:
                urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
            except OSError:
                self.failures += 1
                self.most_failures = max(self.most_failures, self.failures)
                return
        self.failures = 0

    def said(self) -> list[tuple[str, str]]:
        """All that is written where no secret may stand, and all that hostile pods were sent."""
        places = list(secrecy.in_objects(self.asked, "-A"))
        places += secrecy.in_files(self.folder)
        return [*places, ("hostile pods", self.network.heard.decode(errors="replace"))]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    cluster.down_stale()
    name = f"hostile-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    made: World | None = None
    try:
        made = World(Kubectl(up.kubeconfig), tmp_path)
        made.begin()
        yield made
    finally:
        if made is not None:
            made.end()
        cluster.down(name)


def peak_bytes(pid: int) -> int:
    """VmHWM of proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


@pytest.mark.timeout(1800)
# Raids that are cut leave sockets behind, which are collected within the test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seconds", [30, pytest.param(600, marks=pytest.mark.soak)])
def test_hostile_tenant_harms_only_itself(world, seconds, say):
    seed = int(os.environ.get("HOSTILE_SEED", random.SystemRandom().randrange(10**9)))
    team = world.victim
    team.edit()
    before = team.owned()
    attacker = tenant.Tenant(world.asked, world.network, seed=seed, victim=team.policy)
    attacker.settle()
    targets = hostile.Targets(
        sidecar=team.sidecar.admin_port,
        webhook=world.port("WEBHOOK_PORT"),
        others=(world.port("HEALTH_PORT"), world.port("METRICS_PORT")),
    )
    raids = hostile.Raids(
        targets=targets, seed=seed, review=attacker.review, heard=world.network.heard
    )
    attacker.start()
    raids.start(threads=THREADS)
    uncovered = []
    try:
        until = time.monotonic() + seconds
        for number in range(10**6):
            team.edit()
            if not team.create_pod(f"app-{number}"):
                uncovered.append(number)
            world.probe()
            if time.monotonic() > until:
                break
            time.sleep(1)
    finally:
        raids.stop()
        attacker.stop()
        say(told(world, attacker, raids, seed=seed))
    assert all(world.network.asked.values()), "no pod of some kind was asked: this is no attack"
    assert len(raids.made) == len(hostile.RAIDS), "some raid was never made"
    team.edit()
    team.pause()
    assert set(team.answers) == {200}
    assert world.most_failures < FAILURES_IN_A_ROW
    assert uncovered == []
    assert raids.obeyed == []
    assert team.owned()["data"] == before["data"]
    assert team.owned()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    team.wait(lambda: team.condition("ConfigInForce") == ("True", "InForce"), "word of the sidecar")
    team.wait(lambda: team.counted() == team.billed(), "exact count")
    assert team.billed() == team.answers[200]
    assert world.operator.most_resident_bytes() < OPERATOR_BYTES
    assert peak_bytes(team.sidecar.process.pid) < SIDECAR_BYTES
    assert secrecy.Secrets([victim.KEY, team.token()]).find(world.said()) == []
    gc.collect()


def told(world, attacker, raids, *, seed):
    edits = sorted(world.victim.reconciled_seconds)
    asked = ", ".join(f"{kind} {count}" for kind, count in world.network.asked.items() if count)
    made = ", ".join(f"{name.removeprefix('raid_')} {it}" for name, it in raids.made.items())
    return (
        f"hostile tenant, seed {seed}: {attacker.written} writes ({attacker.refused} refused);"
        f" raids: {made}; hostile pods asked: {asked or 'none'}; the victim's answers"
        f" {world.victim.answers}, slowest {world.victim.slowest_seconds:.2f} s; edits in its"
        f" document after {edits[len(edits) // 2]:.2f} s, {edits[-1]:.2f} s at most; operator"
        f" {world.operator.most_resident_bytes() / MIB:.0f} MiB at most, sidecar"
        f" {peak_bytes(world.victim.sidecar.process.pid) / MIB:.0f} MiB"
    )
