"""A daemon is never mistaken for another process, and never left unrecorded."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.cluster import processes


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\0"), max_size=15))
def test_process_may_have_any_name(name):
    fields = " ".join(str(number) for number in range(4, 53))
    stat = processes.parse_stat(f"7 ({name}) S {fields}\n")
    assert stat.state == "S"
    assert stat.started == 22


def test_this_process_is_alive():
    identity = processes.identify(os.getpid())
    assert identity is not None
    assert identity.alive()


@pytest.mark.parametrize("field", ["started", "boot"])
def test_reused_pid_is_another_process(field):
    real = processes.identify(os.getpid())
    assert real is not None
    other = {"started": processes.Identity(real.pid, real.started + 1, real.boot)}
    other["boot"] = processes.Identity(real.pid, real.started, "another boot")
    assert not other[field].alive()


def test_process_with_reused_pid_is_not_killed():
    with subprocess.Popen(["sleep", "60"]) as bystander:
        real = processes.identify(bystander.pid)
        assert real is not None
        processes.end([processes.Identity(real.pid, real.started - 1, real.boot)])
        assert bystander.poll() is None
        bystander.kill()


def test_daemon_is_recorded_before_it_runs(tmp_path):
    said = tmp_path / "log"
    seen = []

    def record(identity):
        time.sleep(0.2)  # long enough for a program that does not wait for its record
        seen.append((identity.pid, said.read_text() if said.exists() else ""))

    daemon = processes.spawn(["sh", "-c", "echo started; sleep 60"], log=said, record=record)
    processes.wait_for(
        "its line",
        lambda: said.read_text() == "started\n",
        timeout_seconds=10,
        watch={"log": daemon},
        logs=tmp_path,
    )
    assert seen == [(daemon.pid, "")]
    processes.end([daemon])
    assert not daemon.alive()


def test_daemon_whose_starter_dies_before_recording_it_never_runs(tmp_path):
    mark = tmp_path / "ran"
    starter = (
        "import os, pathlib, sys\n"
        "from dev.cluster import processes\n"
        "processes.spawn(['touch', sys.argv[1]], log=pathlib.Path(sys.argv[2]),"
        " record=lambda identity: (print(identity.pid, flush=True), os._exit(9)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter, str(mark), str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9
    left = processes.identify(int(done.stdout))
    deadline = time.monotonic() + 10
    while left is not None and left.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left is None or not left.alive()
    assert not mark.exists()


def test_daemon_that_ends_is_told_with_its_last_words(tmp_path):
    daemon = processes.spawn(
        ["sh", "-c", "echo no such flag; exit 1"],
        log=tmp_path / "etcd.log",
        record=lambda _: None,
    )
    with pytest.raises(processes.DiedError, match="etcd ended while waiting for peace"):
        processes.wait_for(
            "peace", lambda: False, timeout_seconds=10, watch={"etcd": daemon}, logs=tmp_path
        )
    assert "no such flag" in processes.tail(tmp_path, "etcd")


def test_wait_for_condition_that_never_holds_is_given_up(tmp_path):
    with pytest.raises(processes.NeverReadyError, match="no peace after 0 s"):
        processes.wait_for("peace", lambda: False, timeout_seconds=0, watch={}, logs=tmp_path)


def test_daemon_deaf_to_signals_is_ended(tmp_path):
    log = tmp_path / "log"
    deaf = processes.spawn(
        ["sh", "-c", "trap '' TERM INT; echo deaf; while :; do sleep 1; done"],
        log=log,
        record=lambda _: None,
    )
    processes.wait_for(
        "its line",
        lambda: log.read_text() == "deaf\n",
        timeout_seconds=10,
        watch={"log": deaf},
        logs=tmp_path,
    )
    os.kill(deaf.pid, signal.SIGTERM)
    assert deaf.alive()
    processes.end([deaf])
    assert not deaf.alive()
