"""Lines of the log, in a process of its own: the tests' process has other handlers."""

import json
import subprocess
import sys


def said(logger, level, message):
    program = (
        "import logging; from embedding_sidecar.telemetry import logs; logs.configure(); "
        f"logging.getLogger({logger!r}).{level}({message!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_record_is_one_line_of_json():
    [line] = said("embedding_sidecar.x", "info", "two\nlines")
    assert json.loads(line)["message"] == "two\nlines"
