"""`make scale`: its smallest run, and that a run which is ended leaves nothing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.cluster import lifecycle, processes, records
from tests.parts import daemons
from tests.parts.installation import ROOT, wait
from tests.scale import __main__ as scale
from tests.scale import generator, leftovers, page, ranges

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1"),
]

SMALLEST = "smallest"
COMMAND = [sys.executable, "-m", "tests.scale"]


@pytest.mark.timeout(900)
def test_smallest_run_keeps_its_ranges(say):
    result = scale.run(generator.named(SMALLEST))
    allowed = ranges.read()
    say(page.tables([result], allowed))
    assert [it for one in allowed[SMALLEST] if (it := one.breach(result))] == []
    (found,) = result.rounds
    assert len(found.edit_seconds) == len(found.bare_edit_seconds) == result.generator.edits
    # Two ConfigMaps, a Secret and the status of each policy, and one list.
    assert found.bare_cold_requests == 4 * result.generator.policies + 1


def test_wrong_size_ends_before_anything_starts(tmp_path, monkeypatch, capsys):
    before = lifecycle.existing()
    monkeypatch.setattr(sys, "argv", ["tests.scale", SMALLEST, "nobody"])
    assert scale.main() == scale.INVALID
    assert "nobody: no such generator" in capsys.readouterr().err
    assert lifecycle.existing() == before


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_run_leaves_nothing(tmp_path, ended_by):
    with (tmp_path / "run.log").open("wb") as log:
        run = subprocess.Popen([*COMMAND, SMALLEST], cwd=ROOT, stdout=log, stderr=log)
    folder = leftovers.FOLDER / str(run.pid)
    name = f"estate-{run.pid}"
    try:
        wait((folder / "operator" / daemons.FILE).exists, "an operator")
        started = identities(folder, name)
        assert len(started) >= 4
        assert all(it.alive() for it in started)
    finally:
        run.send_signal(ended_by)
        run.wait()
        # A run that was killed is removed by the next one.
        if ended_by is signal.SIGKILL:
            leftovers.remove_stale()
    assert [it for it in started if it.alive()] == []
    assert not folder.exists()
    assert name not in lifecycle.existing()


def identities(folder: Path, name: str) -> list[processes.Identity]:
    """Every program of a run."""
    record = records.load(name)
    assert record is not None
    raw = [json.loads(it.read_text()) for it in folder.rglob(daemons.FILE)]
    return [
        *record.processes.values(),
        *(processes.Identity(**it) for found in raw for it in found.values()),
    ]
