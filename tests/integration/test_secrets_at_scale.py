"""Many policies cost Vault and the API server only their paths, and nothing while all is idle.

`make bench-secrets` measures the same with 2,000 policies.
"""

import time

import pytest

from tests.parts import estate
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

POLICIES = 60
NAMESPACES = 6
POLL_SECONDS = 3
JITTER = 0.1
WINDOW_SECONDS = 30
WORKERS = 4
SYNCED_SECONDS = 100


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """An estate, its operator once all is synced, and how often that signed in."""
    folder = tmp_path_factory.mktemp("estate")
    with estate.standing(folder, policies=POLICIES, namespaces=NAMESPACES) as (built, operator):
        logins = built.logins()
        operator.start(VAULT_POLL_SECONDS=str(POLL_SECONDS), RESYNC_SECONDS="5")
        with built.watched() as arrivals:
            wait(
                lambda: arrivals.count() == built.secrets,
                "all Secrets",
                timeout_seconds=SYNCED_SECONDS,
                last=lambda: f"{arrivals.count()} of {built.secrets}",
            )
        wait(lambda: not built.unsynced(), "all policies", last=built.unsynced)
        yield built, operator, built.logins() - logins


def test_each_identity_signs_in_once(synced):
    _, _, logins = synced
    assert logins == NAMESPACES


def test_unchanged_path_is_read_once_per_interval_and_not_written(synced):
    built, operator, _ = synced
    reconciles = operator.metric("embedding_operator_reconciles_total")
    api_before, vault_before = built.api_asked(), built.vault_asked()
    began = time.monotonic()
    time.sleep(WINDOW_SECONDS)
    asked = built.vault_asked().since(vault_before)
    seconds = time.monotonic() - began
    assert set(asked.counts) == {"read_secret"}
    # Fewer where the machine is slow; the Secrets would need half as many again.
    most = len(built.paths) * (seconds / (POLL_SECONDS * (1 - JITTER)) + 1)
    assert len(built.paths) < asked.total <= most < built.secrets * seconds / POLL_SECONDS
    api = built.api_asked().since(api_before)
    assert api.writes == {}
    done = operator.metric("embedding_operator_reconciles_total") - reconciles
    assert done > POLICIES
    # Everything is watched: no reconcile reads again, or lists.
    assert set(api.reads) <= {"get discovery"}


def test_change_reaches_its_secret_and_every_secret_of_shared_path(synced):
    built, _, _ = synced
    with built.watched() as arrivals:
        own, shared = built.paths[0], built.paths[-1]
        value = built.write(own)
        arrivals.wait(built.secret_of(own), value, timeout_seconds=SYNCED_SECONDS)
        value = built.write(shared)
        users = [(space, f"{name}-shared") for space, name in built.policies if space == shared[0]]
        assert len(users) == POLICIES / NAMESPACES
        for user in users:
            arrivals.wait(user, value, timeout_seconds=SYNCED_SECONDS)


def test_operator_was_refused_nothing_and_no_reconcile_failed(synced):
    _, operator, _ = synced
    assert "Forbidden" not in operator.log()
    assert operator.metric("embedding_operator_reconciles_total", labelled='"failed"') == 0
