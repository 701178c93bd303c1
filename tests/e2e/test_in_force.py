"""A changed policy and a changed key are in force in a running pod within seconds, no restart.

The issue allows 5 s; the tests give three times as long and print what it took. The kubelet runs
with its default sync period, about a minute.
"""

import time
import uuid

import pytest

pytestmark = pytest.mark.node

ALLOWED_SECONDS = 3 * 5


def restarts_and_age(shop):
    pod = shop.kubectl.get("pod", "-n", "shop", "-l", "app=search")["items"][0]
    statuses = pod["status"]["initContainerStatuses"] + pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], [status["restartCount"] for status in statuses]


def wait_until(check, *, what):
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < ALLOWED_SECONDS, (
            f"{what}: not after {ALLOWED_SECONDS} s"
        )
        time.sleep(0.1)
    print(f"{what}: {time.monotonic() - started:.1f} s")


def test_changed_policy_is_in_force_in_running_pod(shop):
    before = restarts_and_age(shop)
    patch = '{"spec": {"quota": {"daily": {"requests": 777}}}}'
    shop.kubectl("patch", "embpol", "search", "-n", "shop", "--type=merge", "-p", patch)
    try:
        wait_until(
            lambda: shop.sidecar("quota")["daily_quota"] == 777, what="policy edit to sidecar"
        )
    finally:
        patch = '{"spec": {"quota": {"daily": {"requests": 1000}}}}'
        shop.kubectl("patch", "embpol", "search", "-n", "shop", "--type=merge", "-p", patch)
    wait_until(lambda: shop.sidecar("quota")["daily_quota"] == 1000, what="and back")
    assert restarts_and_age(shop) == before
    shop.wait_for_policy("ConfigInForce")


def test_changed_owned_secret_is_in_force_in_running_pod(shop):
    before = restarts_and_age(shop)
    key = f"primary-key-{uuid.uuid4()}"
    shop.parts.accept_keys("primary", *shop.parts.keys("primary"), key)
    shop.parts.write_keys(PRIMARY_KEY=key, BACKUP_KEY="backup-key-1")
    shop.wait_for_secret("provider-primary", key)

    def used() -> bool:
        shop.ask("vector", f"rotation {uuid.uuid4()}")
        return bool(shop.parts.calls("primary", key=key))

    wait_until(used, what="Secret to the provider's door")
    assert restarts_and_age(shop) == before
