"""Several processes spend one quota in one Redis while everything is killed and stopped at random.

Each writes down its calls. Together they never exceed the limit, and what is lost is at most a
grant for every process that was killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from embedding_sidecar import leases, quota_store
from tests.parts import sidecar, spender

ROOT = Path(__file__).parents[2]
SPENDERS = 4
LOOK_EVERY = 10


class Fire:
    def __init__(self, folder: Path, *, limit: int, seed: int) -> None:
        self.folder = folder
        self.limit = limit
        self.random = random.Random(seed)
        self.server = sidecar.Redis(folder)
        self.started = 0
        self.killed = 0
        self.living: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.started += 1
        log = self.folder / f"spender-{self.started}.log"
        command = (sys.executable, "-m", "tests.parts.spender", self.server.url, str(self.limit))
        return subprocess.Popen([*command, str(log), *arguments], cwd=ROOT)

    def burn(self, *, events: int) -> None:
        for number in range(events):
            while len(self.living) < SPENDERS:
                self.living.append(self.start())
            time.sleep(self.random.uniform(0.02, 0.5))
            happens = self.random.choices(
                [self.kill_a_spender, self.stop_a_spender, self.kill_redis, self.stop_redis],
                weights=[4, 4, 1, 1],
            )
            happens[0]()
            if number % LOOK_EVERY == 0:
                for day, calls in self.spent().items():
                    assert calls <= self.limit, day

    def kill_a_spender(self) -> None:
        victim = self.living.pop(self.random.randrange(len(self.living)))
        victim.kill()
        victim.wait()
        self.killed += 1

    def stop_a_spender(self) -> None:
        self.stop(self.random.choice(self.living).pid, seconds=self.random.uniform(0.05, 1.5))

    def kill_redis(self) -> None:
        self.server.kill()
        time.sleep(self.random.uniform(0.0, 0.5))
        self.server.start()

    def stop_redis(self) -> None:
        # Longer than a claim waits, so that it is carried out after it was given up.
        self.stop(self.server.pid, seconds=quota_store.BUDGET_SECONDS + 0.3)

    def stop(self, pid: int, *, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def put_out(self) -> None:
        """End the living in peace, and let one more spend whatever is left."""
        for process in self.living:
            process.terminate()
        for process in self.living:
            # Ended by the signal itself: it had not begun yet.
            assert process.wait(timeout=30) in {0, -signal.SIGTERM}
        self.living = [self.start("--drain")]
        assert self.living[0].wait(timeout=900) == 0

    def spent(self) -> dict[int, int]:
        """Calls of each day, by the spenders' own logs."""
        days: dict[int, int] = {}
        for log in self.folder.glob("spender-*.log"):
            for line in log.read_text().splitlines():
                day = int(line[1:])
                days[day] = days.get(day, 0) + (1 if line[0] == "+" else -1)
        return days

    def counted(self) -> dict[int, int]:
        """Calls of each day, by the store."""
        with redis.Redis(port=self.server.port) as client:
            prefix = f"{quota_store.PREFIX}{{{spender.SCOPE}}}:"
            return {
                int(key.decode().removeprefix(prefix)): int(client.hget(key, "calls"))
                for key in client.keys(f"{prefix}*")
            }

    def end(self) -> None:
        for process in self.living:
            process.kill()
            process.wait()
        self.server.kill()


def under_fire(folder: Path, *, events: int, limit: int) -> None:
    seed = time.time_ns()
    fire = Fire(folder, limit=limit, seed=seed)
    try:
        fire.burn(events=events)
        fire.put_out()
        spent, counted = fire.spent(), fire.counted()
    finally:
        fire.end()
    lost = sum(counted.values()) - sum(spent.values())
    print(f"seed {seed}: limit {limit}, spent {spent}, lost {lost} with {fire.killed} killed")
    assert max(spent.values()) <= limit
    assert counted[max(counted)] == limit
    assert 0 <= lost <= fire.killed * leases.GRANT_CALLS


@pytest.mark.integration
def test_under_fire_the_limit_holds_and_the_loss_is_bounded(tmp_path):
    under_fire(tmp_path, events=25, limit=6_000)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_under_a_long_fire_the_limit_holds_and_the_loss_is_bounded(tmp_path):
    under_fire(tmp_path, events=1_500, limit=600_000)
