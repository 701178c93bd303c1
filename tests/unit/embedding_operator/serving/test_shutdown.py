"""SIGTERM ends the process in bounded time, whatever hangs."""

import subprocess
import sys

import pytest

from embedding_operator.election import lease
from embedding_operator.serving import shutdown
from tests.parts.waiting import eventually

HANGS = """
import threading
from embedding_operator.serving import shutdown
shutdown.GRACE_SECONDS = 0.2
shutdown.end_in_time()
threading.Thread(target=threading.Event().wait, name="hangs").start()
"""
ENDS = """
from embedding_operator.serving import shutdown
shutdown.end_in_time()
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=False, capture_output=True, text=True
    )


def test_thread_that_hangs_does_not_keep_process_and_is_named():
    ended = run(HANGS)
    assert ended.returncode == 1
    assert "hangs" in ended.stderr


def test_process_that_ends_by_itself_is_left_alone():
    assert run(ENDS).returncode == 0


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(shutdown, "end_in_time", lambda: None)
    monkeypatch.setattr(shutdown, "LINGER_SECONDS", 0.05)


def test_end_finishes_work_before_it_is_over(short):
    order = []
    ending = shutdown.Ending(lambda: order.append("work"))
    ending.over.add_done_callback(lambda _: order.append("over"))
    assert not ending.has_begun
    ending.begin()
    assert ending.has_begun
    ending.over.result(10)
    eventually(lambda: order == ["work", "over"])
    assert ending.code == 0


def test_first_reason_to_end_counts(short, caplog):
    ending = shutdown.Ending(lambda: None)
    ending.begin(code=1, reason="the Lease is lost")
    ending.begin()
    ending.over.result(10)
    assert ending.code == 1
    assert [it.message for it in caplog.records] == ["ends: the Lease is lost"]


def test_work_that_fails_does_not_prevent_end(short):
    def fails():
        raise RuntimeError

    ending = shutdown.Ending(fails)
    ending.begin()
    ending.over.result(10)


def test_end_lingers_unless_told_not_to(monkeypatch):
    monkeypatch.setattr(shutdown, "end_in_time", lambda: None)
    monkeypatch.setattr(shutdown, "LINGER_SECONDS", 3600)
    ending = shutdown.Ending(lambda: None)
    ending.begin(lingers=False)
    ending.over.result(10)
    lingers = shutdown.Ending(lambda: None)
    lingers.begin()
    with pytest.raises(TimeoutError):
        lingers.over.result(0.2)


def test_parts_of_end_fit_into_its_time():
    assert shutdown.LINGER_SECONDS < shutdown.GRACE_SECONDS
    # Then the Lease is given back.
    assert shutdown.WORK_SECONDS + lease.CALL_SECONDS <= shutdown.GRACE_SECONDS < 30
