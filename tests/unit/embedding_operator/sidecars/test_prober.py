"""The prober thread survives every error, and no thread waits for it."""

import asyncio
import dataclasses
import threading
import time
from collections import Counter

import pytest

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.sidecars import config_request, pace, prober, schedule
from embedding_operator.sidecars.pages import InForce
from embedding_operator.sidecars.targets import Pod, Target, Wanted
from embedding_operator.status import config_in_force

POLICY = ObjectKey("shop", "search")
WANTED = Wanted(document="d2", secrets="s2", token="t")
NEWEST = InForce(document="d2", secrets="s2", rejected=None)


def pod(number, namespace="shop"):
    return Pod(
        namespace=namespace, name=f"pod-{number}", uid=f"{namespace}-{number}", address="10.0.0.1"
    )


class World(config_request.Client):
    """Sidecars by the names of their pods: an answer, an error, or None for one that hangs."""

    def __init__(self):
        self.answers = {}
        self.mounted = {}
        """The answers after the nudge of a pod."""
        self.nudges_go_out = threading.Event()
        self.nudges_go_out.set()
        self.changed = threading.Event()
        self.results: Counter[str] = Counter()
        self.most, self.under_way = 0, 0
        self.prober = prober.Prober(
            asks=self,
            nudge=self.nudge,
            changed=lambda *_: self.changed.set(),
            asked=self.count,
            period_seconds=30,
        )

    def count(self, result):
        self.results[result] += 1

    def nudge(self, namespace, pod, value):
        self.nudges_go_out.wait()
        if pod in self.mounted:
            self.answers[pod] = self.mounted[pod]

    async def in_force(self, pod, *, token):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            answer = self.answers.get(pod.name)
            if answer is None:
                await asyncio.sleep(3600)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.under_way -= 1

    async def quota(self, pod, *, token):
        raise RuntimeError("a bug")

    def watch(self, *pods, policy=POLICY, wanted=WANTED):
        self.prober.watch(policy, Target(policy_uid="u", pods=pods, wanted=wanted))

    def wait(self, check):
        for _ in range(3000):
            if check(self.prober.seen(POLICY).force):
                return
            threading.Event().wait(0.01)
        raise AssertionError(self.prober.seen(POLICY))


@pytest.fixture
def world():
    made = World()
    made.prober.start()
    yield made
    # Those that hang would be waited for: they end with the process, as their thread is a daemon.
    made.prober._closed = True


def test_answer_of_sidecar_is_told(world):
    world.answers["pod-1"] = NEWEST
    world.watch(pod(1))
    assert world.changed.wait(timeout=30)
    world.wait(lambda force: force == config_in_force.Force(in_force=1))
    assert world.results["ok"] >= 1


def test_bug_that_one_answer_meets_ends_nothing(world):
    world.answers = {"pod-1": RuntimeError("a bug"), "pod-2": NEWEST}
    world.watch(pod(1), pod(2))
    world.wait(lambda force: force.in_force == 1 and force.unknown)
    assert not world.prober.has_ended()
    assert world.prober.seen(POLICY).force.unknown == (
        errors.Problem(
            config_in_force.NO_ANSWER, "pod-1 could not be asked: see the operator's log"
        ),
    )


def test_hanging_sidecars_delay_neither_callers_nor_other_sidecars(world):
    """field.md, D1."""
    world.answers["pod-1"] = NEWEST
    world.watch(pod(1))
    world.wait(lambda force: force.in_force == 1)
    for number in range(50):
        namespace = f"hostile-{number}"
        pods = [pod(f"hangs-{it}", namespace) for it in range(20)]
        world.watch(*pods, policy=(namespace, "hostile"))
    world.answers["pod-1"] = InForce(document="d3", secrets="s2", rejected=None)
    world.watch(pod(1), wanted=Wanted(document="d3", secrets="s2", token="t"))
    world.wait(lambda force: force == config_in_force.Force(in_force=1))
    assert world.most <= schedule.PLACES // 2 + 1


def test_nudge_wakes_thread_that_would_ask_much_later(world, monkeypatch):
    monkeypatch.setattr(pace, "LAST_LATE_SECONDS", 3600.0)
    world.answers["pod-1"] = NEWEST
    world.watch(pod(1), wanted=dataclasses.replace(WANTED, has_quota=False))
    world.wait(lambda force: force.in_force == 1)
    world.mounted["pod-1"] = InForce(document="d3", secrets="s2", rejected=None)
    world.nudges_go_out.clear()
    world.watch(pod(1), wanted=dataclasses.replace(WANTED, document="d3", has_quota=False))
    time.sleep(0.5)  # the thread sees that nothing is due for an hour
    world.nudges_go_out.set()
    world.wait(lambda force: force == config_in_force.Force(in_force=1))


def test_closing_ends_thread():
    world = World()
    world.prober.start()
    world.answers["pod-1"] = NEWEST
    world.watch(pod(1))
    world.wait(lambda force: force.in_force == 1)
    assert not world.prober.has_ended()
    world.prober.close()
    assert world.prober.has_ended()
    world.watch(pod(2))  # a reconcile may still be under way
