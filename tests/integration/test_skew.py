"""Sidecars of a release of before obey this operator, and those of this tree an operator of before.

Each is a real process of its own commit, with the packages that its lock names; the API server, the
Redis and what is written between them are real. kubelet and the provider are stood in for.
"""

from contextlib import ExitStack

import pytest

from embedding_sidecar.quota.periods import DAY_SECONDS
from tests.fakes import provider
from tests.parts import clock, release_before, sidecar, skew

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

RELEASES = [release_before.PREVIOUS, release_before.LATEST]
LIMIT = 40


@pytest.fixture
def stack():
    with ExitStack() as made:
        yield made


@pytest.fixture
def time(tmp_path):
    """The clock of Redis and of all sidecars."""
    return clock.Clock(tmp_path / "clock")


@pytest.fixture
def store(tmp_path, time, stack):
    (tmp_path / "redis").mkdir()
    made = sidecar.Redis(tmp_path / "redis", environment=time.environment)
    stack.callback(made.kill)
    return made


@pytest.fixture
def vendor(stack):
    return provider.StandIn(key="sk-1")


@pytest.fixture
def url(vendor, stack):
    return stack.enter_context(sidecar.served(vendor.app()))


@pytest.fixture
def shop(api_server, namespace, tmp_path, stack):
    made = skew.Shop(api_server, namespace, tmp_path, stack)
    made.keys(openai="sk-1")
    return made


def spec(url, store, **more):
    redis = {"url": store.url}
    return {
        "provider": {"baseURL": f"{url}/v1"},
        "quota": {"daily": {"requests": LIMIT}},
        "cache": {"redis": redis},
        "alerts": {"enabled": False},
        **more,
    }


@pytest.mark.parametrize("commit", RELEASES)
@pytest.mark.parametrize("older", ["sidecar", "operator"])
def test_releases_obey_each_other(
    commit, older, api_server, tmp_path, stack, shop, vendor, url, store, time
):
    before = release_before.of(commit)
    operator = before if older == "operator" else None
    stack.enter_context(
        skew.operator(tmp_path / "operator", api_server.kubeconfig, operator, **time.environment)
    )
    shop.apply(**spec(url, store))
    # Both releases count in one Redis and share one cache, as while pods are replaced.
    pods = [shop.pod(it, **time.environment) for it in (before, None)]
    for it in pods:
        shop.wait_for_document(it)
    ask_whole_day(pods, vendor)
    vendor.key = None
    shop.rotate(pods, "sk-2")
    vendor.key = "sk-2"
    time.set(ahead_seconds=time.ahead_seconds + DAY_SECONDS)
    ask_whole_day(pods, vendor)
    edit(shop, pods, url, store)
    if operator is None:
        shop.wait_for("Ready", "True", "Ready")
    for it in pods:
        assert "Traceback" not in it.sidecar.said()


def ask_whole_day(pods, vendor):
    """All calls of a day go out, by both, and not one more; each text is bought once."""
    start = len(vendor.calls)
    answers = [
        pods[number % 2].sidecar.embed(f"{start} text {number}") for number in range(LIMIT + 10)
    ]
    statuses = [it.status_code for it in answers]
    called = len(vendor.calls) - start
    assert called <= LIMIT
    # What one pod holds of the day is not the other's: each draws at most 16 calls ahead.
    assert called > LIMIT - 17
    assert statuses.count(200) == called
    assert set(statuses) == {200, 429}
    assert {it.json()["error"]["code"] for it in answers if it.status_code == 429} == {
        "insufficient_quota"
    }
    again = pods[0].sidecar.embed(f"{start} text 0")
    assert again.headers["x-embedding-cache"] == "hit"


def edit(shop, pods, url, store):
    """More is allowed: both obey."""
    changed = spec(url, store, quota={"daily": {"requests": LIMIT + 20}})
    shop.apply(**changed)
    for it in pods:
        shop.wait_for_document(it)
    assert pods[0].sidecar.embed("one more").status_code == 200
    assert pods[1].sidecar.embed("one more of the other").status_code == 200


def test_field_that_older_sidecar_must_not_overlook_keeps_last_document(
    api_server, tmp_path, stack, shop, url, store, time
):
    stack.enter_context(
        skew.operator(tmp_path / "operator", api_server.kubeconfig, None, **time.environment)
    )
    shop.apply(**spec(url, store))
    pod = shop.pod(release_before.of(), **time.environment)
    shop.wait_for("Ready", "True", "Ready")
    message = shop.wait_for("ConfigInForce", "True", "InForceUnproven", words=pod.name)
    assert "restart these pods" in message
    monthly = {"daily": {"requests": LIMIT}, "monthly": {"requests": 1_000}}
    shop.apply(**spec(url, store, quota=monthly))
    told = f"{pod.name} rejects the newest document (it does not know quota.monthly"
    shop.wait_for("ConfigInForce", "False", "SidecarsBehind", words=told)
    assert shop.condition("Ready")["status"] == "False"
    assert pod.sidecar.embed("by the last document").status_code == 200


def test_field_that_older_sidecar_overlooks_is_told_and_not_in_force(
    api_server, tmp_path, stack, shop, url, store, time
):
    stack.enter_context(
        skew.operator(tmp_path / "operator", api_server.kubeconfig, None, **time.environment)
    )
    given = spec(url, store)
    given["provider"] |= {"timeouts": {"callSeconds": 5}}
    shop.apply(**given, failover={"enabled": True})
    older, newer = (shop.pod(it, **time.environment) for it in (release_before.of(), None))
    message = shop.wait_for(
        "ConfigInForce", "False", "SidecarsBehind", words="1 of 2 sidecars obey"
    )
    assert f"{older.name} ignores providers.timeouts" in message
    assert newer.name not in message
