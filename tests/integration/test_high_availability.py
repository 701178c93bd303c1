"""Two operators and one Lease on a real API server: one reconciles, and another follows it."""

import base64
import contextlib
import json
import signal
import ssl
import threading
import time
from datetime import UTC, datetime

import pytest
import urllib3
import yaml

from dev.cluster import processes
from embedding_contract import names
from tests.parts import admitting, balancer, replicas, shipped_roles

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

HARMS = {"killed": replicas.kill, "frozen": replicas.freeze, "cut off": replicas.cut_off}
SHORT, LONG = 2, 20
PROMISED_SECONDS = 20
A_SECOND = 50
REMOVAL_SECONDS = 1.0
"""The time for which a Service leads to a pod after its SIGTERM."""


@pytest.fixture(scope="module")
def both(api_server, tmp_path_factory):
    made = replicas.Replicas(api_server, tmp_path_factory.mktemp("replicas"))
    try:
        yield made
    finally:
        made.close()
        api_server("delete", "lease", names.LEASE, "-n", admitting.SYSTEM)


@pytest.fixture
def pair(both):
    """Two replicas, one of which holds the Lease."""
    while len(both.running) < 2:
        both.add()
    both.until_held()
    return both


@pytest.fixture
def edits(api_server, namespace, pair):
    made = replicas.Edits(api_server, namespace)
    made.seconds_until_reconciled(last=pair.logs)
    return made


def rounds(harm, pair, edits, *, count):
    """The times until another replica reconciled, and what each holder wrote after its return."""
    took, wrote = [], []
    for _ in range(count):
        while len(pair.running) < 2:
            pair.add()
        holder = pair.until_held()
        with writing(edits):
            edits.seconds_until_reconciled(last=pair.logs)
            HARMS[harm](holder)
        took.append(edits.seconds_until_reconciled(last=pair.logs))
        wrote.append(come_back(harm, holder, pair))
        assert pair.holder() not in {None, holder}
        edits.seconds_until_reconciled(last=pair.logs)
        pair.remove(holder)
    return took, wrote


def come_back(harm, holder, pair) -> int:
    """Let a holder go on that lost the Lease: it ends. The number of its writes meanwhile."""
    since = datetime.now(UTC)
    if harm == "frozen":
        holder.signal(signal.SIGCONT)
    if harm == "cut off":
        holder.way.thaw()
    replicas.until(lambda: not holder.is_running(), "end of the loser", last=holder.log)
    if harm != "killed":
        assert "ends: " in holder.log()
    written = pair.writes_after(holder, since)
    # A renewal under way finds that the Lease has changed, or comes in pieces.
    renewals = [it for it in written if it["objectRef"]["resource"] == "leases"]
    assert all(it["responseStatus"]["code"] in {409, 504} for it in renewals)
    return len(written) - len(renewals)


class writing:  # noqa: N801 - read as a word
    """The policy is edited all the time, so that the holder is writing when the harm is done."""

    def __init__(self, edits):
        self._edits = edits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _write(self):
        while not self._stop.is_set():
            self._edits.edit()


def fails_over(harm, pair, edits, say, *, count):
    took, wrote = rounds(harm, pair, edits, count=count)
    say(
        f"holder {harm}, {count} times: another reconciled after {max(took):.1f} s at worst;"
        f" writes of the loser after its return: {max(wrote)} at most"
    )
    if harm == "frozen":  # what a network held back arrives later, whoever sent it
        assert max(wrote) <= 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("harm", list(HARMS))
def test_other_replica_reconciles_after_holder_is(harm, pair, edits, say):
    fails_over(harm, pair, edits, say, count=SHORT)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("harm", list(HARMS))
def test_other_replica_reconciles_20_times_after_holder_is(harm, pair, edits, say):
    fails_over(harm, pair, edits, say, count=LONG)


def test_replica_without_right_to_lease_ends_and_names_value(api_server, tmp_path):
    denied = replicas.Replica(api_server, tmp_path / "denied", "denied")
    api_server("delete", "rolebinding", f"{shipped_roles.NAME}-lease-denied", "-n", replicas.SYSTEM)
    try:
        with contextlib.suppress(processes.DiedError):  # it may end before it was ever ready
            denied.start()
        replicas.until(lambda: not denied.is_running(), "end without the right", last=denied.log)
        assert "leaderElection.enabled needs the right" in denied.log()
    finally:
        denied.close()


def test_replica_without_lease_writes_nothing(pair, edits):
    since = datetime.now(UTC)
    holder = pair.until_held()
    (other,) = (it for it in pair.running if it is not holder)
    for _ in range(5):
        edits.seconds_until_reconciled(last=pair.logs)
    assert pair.writes_after(holder, since, but=["leases"])
    assert pair.writes_after(other, since) == []


class Asking:
    """Pods are created in dry runs, so many a second, by way of the API server and a webhook."""

    def __init__(self, api_server, namespace):
        config = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
        user = config["users"][0]["user"]
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server = cluster["server"]
        context = ssl.create_default_context(cadata=authority)
        folder = api_server.kubeconfig.parent
        for name, key in (("c.crt", "client-certificate-data"), ("c.key", "client-key-data")):
            (folder / name).write_bytes(base64.b64decode(user[key]))
        context.load_cert_chain(folder / "c.crt", folder / "c.key")
        self._manager = urllib3.PoolManager(ssl_context=context, maxsize=10, retries=False)
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        self._body = json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"generateName": "asked-"},
                "spec": {"containers": [admitting.CONTAINER]},
            }
        ).encode()
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self._stop = threading.Event()
        self.injected = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        while not self._stop.wait(self._pause()):
            answer = self._manager.request(
                "POST",
                self._server + self._path,
                body=self._body,
                headers={"Content-Type": "application/json"},
            )
            made = answer.json()
            is_injected = answer.status == 201 and admitting.sidecars(made) == [names.CONTAINER]
            with self._lock:
                if is_injected:
                    self.injected += 1
                else:
                    self.failed.append(answer.data.decode()[:300])

    def _pause(self):
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next + 1 / A_SECOND, now - 0.5)
            return max(0.0, self._next - now)


@pytest.mark.timeout(600)
def test_rolling_restart_under_load_fails_no_request(api_server, namespace, pair, edits, say):
    with balancer.balanced() as service:
        service.lead_to(*(it.webhook_port for it in pair.running))
        admitting.lead(api_server, service.port)
        try:
            replicas.until(
                lambda: admitting.is_trusted(api_server), "a trusted authority", last=pair.logs
            )
            with Asking(api_server, namespace) as asking:
                replicas.until(lambda: asking.injected >= A_SECOND, "injections", last=pair.logs)
                started = time.monotonic()
                for old in list(pair.running):
                    restart(old, pair, service)
                    edits.seconds_until_reconciled(last=pair.logs)
                seconds = time.monotonic() - started
        finally:
            api_server("delete", "mutatingwebhookconfiguration", admitting.CONFIGURATION)
    say(
        f"rolling restart of 2 replicas in {seconds:.0f} s: {asking.injected} pods injected,"
        f" {len(asking.failed)} without a sidecar"
    )
    assert asking.failed == []
    assert asking.injected > 10 * A_SECOND


def restart(old, pair, service):
    """As a Deployment does with maxUnavailable 0: a new one first, and the Service follows."""
    pair.add()
    service.lead_to(*(it.webhook_port for it in pair.running))
    old.signal(signal.SIGTERM)
    time.sleep(REMOVAL_SECONDS)  # of the Service's own, which nothing shows
    service.lead_to(*(it.webhook_port for it in pair.running if it is not old))
    replicas.until(lambda: not old.is_running(), "end of the old one", last=old.log)
    assert "threads that hang" not in old.log()
    pair.remove(old)


def test_holder_that_is_told_to_end_gives_lease_back(api_server, pair, edits):
    holder = pair.until_held()
    holder.signal(signal.SIGTERM)
    replicas.until(lambda: not holder.is_running(), "end of the holder", last=holder.log)
    assert "gave the Lease back" in holder.log()
    pair.remove(holder)
    edits.seconds_until_reconciled(last=pair.logs)
    lease = api_server.get("lease", names.LEASE, "-n", admitting.SYSTEM)["spec"]
    assert lease["leaseDurationSeconds"] == 15
