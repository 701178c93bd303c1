"""SIGTERM ends the process in bounded time, whatever hangs."""

import subprocess
import sys

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
