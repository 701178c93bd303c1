"""Sidecars of a release of before obey this operator, and those of this tree an operator of before.

Each is a real process of its own commit, with the packages that its lock names; the API server, the
Redis and what is written between them are real. kubelet and the provider are stood in for.
"""

import itertools
import os
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from embedding_sidecar.quota.periods import DAY_SECONDS
from tests.fakes import provider
from tests.parts import clock, release_before, sidecar, skew

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

RELEASES = [release_before.PREVIOUS, release_before.LATEST]
LIMIT = 40
SOAK_SECONDS = int(os.environ.get("SKEW_SOAK_SECONDS", "3600"))
AHEAD = 16
"""The most calls that a sidecar draws of the day before it makes them."""


class Stage:
    """An operator, a Redis and a provider, and pods of any release. All live by one clock."""

    def __init__(self, api_server, namespace, folder, stack):
        self._kubeconfig = api_server.kubeconfig
        self._folder = folder
        self._stack = stack
        self.time = clock.Clock(folder / "clock")
        (folder / "redis").mkdir()
        self._store = sidecar.Redis(folder / "redis", environment=self.time.environment)
        stack.callback(self._store.kill)
        self.vendor = provider.StandIn(key="sk-1")
        self._url = stack.enter_context(sidecar.served(self.vendor.app()))
        self.shop = skew.Shop(api_server, namespace, folder, stack)
        self.shop.keys(openai="sk-1")

    def operator(self, release):
        folder, environment = self._folder / "operator", self.time.environment
        running = skew.operator(folder, self._kubeconfig, release, **environment)
        self._stack.enter_context(running)

    def pod(self, release):
        return self.shop.pod(release, **self.time.environment)

    def apply(self, *, terms=None, **spec):
        self.shop.apply(
            provider={"baseURL": f"{self._url}/v1", **(terms or {})},
            **{
                "quota": {"daily": {"requests": LIMIT}},
                "cache": {"redis": {"url": self._store.url}},
                "alerts": {"enabled": False},
                **spec,
            },
        )

    def next_day(self):
        self.time.set(ahead_seconds=self.time.ahead_seconds + DAY_SECONDS)

    def ask_whole_day(self, *pods):
        """All calls of a day go out, by all pods, and not one more; each text is bought once."""
        start = len(self.vendor.calls)
        answers = [
            pods[number % len(pods)].sidecar.embed(f"{start} text {number}")
            for number in range(LIMIT + 10)
        ]
        called = len(self.vendor.calls) - start
        statuses = [it.status_code for it in answers]
        # What one pod holds of the day is not the other's.
        assert LIMIT - AHEAD <= called <= LIMIT
        assert statuses.count(200) == called
        refused = [it.json()["error"]["code"] for it in answers if it.status_code != 200]
        assert set(refused) == {"insufficient_quota"}
        again = pods[0].sidecar.embed(f"{start} text 0")
        assert again.headers["x-embedding-cache"] == "hit"
        return called


@pytest.fixture
def stage(api_server, namespace, tmp_path):
    with ExitStack() as stack:
        yield Stage(api_server, namespace, tmp_path, stack)


@pytest.mark.parametrize("commit", RELEASES)
@pytest.mark.parametrize("older", ["sidecar", "operator"])
def test_releases_obey_each_other(stage, commit, older, say):
    before = release_before.of(commit)
    stage.operator(before if older == "operator" else None)
    stage.apply()
    # Both releases count in one Redis and share one cache, as while pods are replaced.
    pods = [stage.pod(it) for it in (before, None)]
    for it in pods:
        stage.shop.wait_for_document(it)
    called = [stage.ask_whole_day(*pods)]
    rotate(stage, pods)
    stage.next_day()
    called.append(stage.ask_whole_day(*pods))
    stage.apply(quota={"daily": {"requests": LIMIT + 20}})
    for it in pods:
        stage.shop.wait_for_document(it)
    assert [it.sidecar.embed(f"more of {it.name}").status_code for it in pods] == [200, 200]
    if older == "sidecar":
        stage.shop.wait_for("Ready", "True", "Ready")
    assert "Traceback" not in "".join(it.sidecar.said() for it in pods)
    say(f"{older} of {commit[:7]}, the other of this tree: {called} calls of {LIMIT} in two days")


@pytest.mark.soak
@pytest.mark.timeout(2 * SOAK_SECONDS)
def test_older_sidecars_obey_for_one_hour(stage, say):
    """The same at length: days end, and a key is rotated, with a request each half second."""
    stage.operator(None)
    stage.apply(quota={"daily": {"requests": 10_000}})
    pods = [stage.pod(release_before.of()) for _ in range(2)]
    for it in pods:
        stage.shop.wait_for_document(it)
    ends_at, statuses, turn = time.monotonic() + SOAK_SECONDS, Counter[int](), itertools.count()
    events = [stage.next_day, lambda: rotate(stage, pods), stage.next_day]
    for number, event in enumerate(events, start=1):
        until = ends_at - SOAK_SECONDS * (len(events) + 1 - number) / (len(events) + 1)
        while time.monotonic() < until:
            ask(pods, next(turn), statuses)
        event()
    while time.monotonic() < ends_at:
        ask(pods, next(turn), statuses)
    assert set(statuses) == {200}
    stage.shop.wait_for("Ready", "True", "Ready")
    say(f"sidecars of N-1 for {SOAK_SECONDS} s: {statuses[200]} requests, 0 failed")


def ask(pods, number, statuses):
    statuses[pods[number % 2].sidecar.embed(f"text {number}").status_code] += 1
    time.sleep(0.5)


def rotate(stage, pods):
    stage.vendor.key = None
    stage.shop.rotate(pods, "sk-2")
    stage.vendor.key = "sk-2"


def test_field_that_older_sidecar_must_not_overlook_keeps_last_document(stage):
    stage.operator(None)
    stage.apply()
    pod = stage.pod(release_before.of())
    stage.shop.wait_for("Ready", "True", "Ready")
    message = stage.shop.wait_for("ConfigInForce", "True", "InForceUnproven", words=pod.name)
    assert "restart these pods" in message
    stage.apply(quota={"daily": {"requests": LIMIT}, "monthly": {"requests": 1_000}})
    told = f"{pod.name} rejects the newest document (it does not know quota.monthly"
    stage.shop.wait_for("ConfigInForce", "False", "SidecarsBehind", words=told)
    assert stage.shop.condition("Ready")["status"] == "False"
    assert pod.sidecar.embed("by the last document").status_code == 200


def test_field_that_older_sidecar_overlooks_is_never_in_force(stage):
    stage.operator(None)
    stage.apply(terms={"timeouts": {"callSeconds": 5}})
    older, newer = (stage.pod(it) for it in (release_before.of(), None))
    message = stage.shop.wait_for(
        "ConfigInForce", "False", "SidecarsBehind", words="1 of 2 sidecars obey"
    )
    assert f"{older.name} ignores providers.timeouts" in message
    assert newer.name not in message
