"""A throwaway control plane is real, starts only once, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev import cluster
from dev.cluster import lifecycle, records
from tests.parts import sidecar

pytestmark = pytest.mark.cluster

START_SECONDS = 60


@pytest.fixture(autouse=True, scope="module")
def built():
    cluster.down_stale()
    cluster.artifact("kubectl")
    return True


@pytest.fixture
def names():
    """Names for clusters of one test, all of which are gone after it."""
    given = [f"test-{os.getpid()}-{letter}" for letter in "ab"]
    yield given
    for name in given:
        cluster.down(name)


def _kubectl(kubeconfig: Path, *arguments: str) -> str:
    command = [str(cluster.artifact("kubectl")), f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _processes_of(name: str) -> list[str]:
    folder = str(records.folder_of(name)).encode()
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if folder in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def _assert_gone(name: str) -> None:
    assert _processes_of(name) == []
    assert not records.folder_of(name).exists()
    assert name not in lifecycle.existing()


def test_two_clusters_at_once_know_nothing_of_each_other(names):
    one, two = (cluster.up(name=name) for name in names)
    _kubectl(one.kubeconfig, "create", "namespace", "only-here")
    assert "only-here" in _kubectl(one.kubeconfig, "get", "namespaces", "-o", "name")
    assert "only-here" not in _kubectl(two.kubeconfig, "get", "namespaces", "-o", "name")
    assert one.host_address is None
    cluster.down(names[0])
    _assert_gone(names[0])
    assert "default" in _kubectl(two.kubeconfig, "get", "namespaces", "-o", "name")


def test_up_twice_is_one_cluster(names):
    first = cluster.up(name=names[0])
    running = _processes_of(names[0])
    assert cluster.up(name=names[0]) == first
    assert _processes_of(names[0]) == running
    assert len(running) == 3


def test_controllers_work(names):
    up = cluster.up(name=names[0])
    token = _kubectl(up.kubeconfig, "create", "token", "default")
    assert token.count(".") == 2
    _kubectl(up.kubeconfig, "create", "configmap", "owner")
    uid = _kubectl(up.kubeconfig, "get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    _kubectl(up.kubeconfig, "create", "configmap", "owned")
    patch = json.dumps({"metadata": {"ownerReferences": [owner]}})
    _kubectl(up.kubeconfig, "patch", "configmap", "owned", f"--patch={patch}")
    _kubectl(up.kubeconfig, "delete", "configmap", "owner")
    _kubectl(up.kubeconfig, "wait", "configmap/owned", "--for=delete", "--timeout=30s")


def test_refusal_to_service_account_is_in_audit_log(names, tmp_path):
    up = cluster.up(name=names[0])
    document = json.loads(up.kubeconfig.read_text())
    token = _kubectl(up.kubeconfig, "create", "token", "default").strip()
    document["users"][0]["user"] = {"token": token}
    account = tmp_path / "kubeconfig"
    account.write_text(json.dumps(document))
    with pytest.raises(subprocess.CalledProcessError):
        _kubectl(account, "get", "secrets")
    assert up.log is not None
    deadline = time.monotonic() + 10
    refused: list[dict] = []
    while not refused and time.monotonic() < deadline:
        entries = map(json.loads, (up.log / "audit.log").read_text().splitlines())
        refused = [entry for entry in entries if entry["responseStatus"].get("code") == 403]
    assert refused[0]["user"]["username"] == "system:serviceaccount:default:default"
    assert refused[0]["objectRef"]["resource"] == "secrets"


@pytest.mark.parametrize("daemon", ["etcd", "apiserver", "controller-manager"])
def test_cluster_that_lost_daemon_is_started_anew(names, daemon):
    cluster.up(name=names[0])
    record = records.load(names[0])
    assert record is not None
    os.kill(record.processes[daemon].pid, signal.SIGKILL)
    sidecar.wait_until(lambda: not record.processes[daemon].alive())
    again = cluster.up(name=names[0])
    renewed = records.load(names[0])
    assert renewed is not None
    assert renewed.processes[daemon] != record.processes[daemon]
    assert "default" in _kubectl(again.kubeconfig, "get", "namespaces", "-o", "name")
    cluster.down(names[0])
    _assert_gone(names[0])


def test_down_leaves_nothing_after_daemon_was_killed(names):
    cluster.up(name=names[0])
    record = records.load(names[0])
    assert record is not None
    os.kill(record.processes["etcd"].pid, signal.SIGKILL)
    cluster.down(names[0])
    _assert_gone(names[0])


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dev.cluster", *arguments]


def test_cluster_whose_start_was_killed_is_removed_whole(names):
    with subprocess.Popen(
        _command("up", "--name", names[0]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as starting:
        deadline = time.monotonic() + START_SECONDS
        while len(_processes_of(names[0])) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        starting.kill()
    assert _processes_of(names[0]) != []
    cluster.down(names[0])
    _assert_gone(names[0])


def test_cluster_goes_with_its_owner(names):
    with subprocess.Popen(["sleep", "60"]) as owner:
        cluster.up(name=names[0], owner_pid=owner.pid)
        cluster.up(name=names[1])
        assert names[0] not in cluster.down_stale()
        owner.kill()
    assert names[0] in cluster.down_stale()
    _assert_gone(names[0])
    assert len(_processes_of(names[1])) == 3


def test_finder_of_orphaned_cluster_becomes_its_owner(names):
    with subprocess.Popen(["sleep", "60"]) as owner:
        first = cluster.up(name=names[0], owner_pid=owner.pid)
        owner.kill()
    assert cluster.up(name=names[0], owner_pid=os.getpid()) == first
    assert names[0] not in cluster.down_stale()
    assert len(_processes_of(names[0])) == 3


def test_owner_that_does_not_run_is_refused(names):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with pytest.raises(lifecycle.OwnerError, match="does not run"):
        cluster.up(name=names[0], owner_pid=ended.pid)


def test_only_path_of_kubeconfig_is_printed(names, tmp_path):
    copy = tmp_path / "kubeconfig"
    done = subprocess.run(
        _command("up", "--name", names[0], "--kubeconfig", str(copy)),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{copy}\n"
    assert copy.stat().st_mode & 0o077 == 0
    assert "[1/2] starting the control plane … " in done.stderr
    listed = subprocess.run(_command("list"), check=True, capture_output=True, text=True).stdout
    assert f"{names[0]}\tcontrol-plane\tup\t{records.folder_of(names[0])}/kubeconfig\n" in listed


def test_mistake_is_told_in_line():
    done = subprocess.run(
        _command("up", "--name", "No Name"), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 'No Name'")
    assert "Traceback" not in done.stderr
