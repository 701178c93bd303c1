"""`make kubernetes`: the cluster tests on each minor of Kubernetes, and their table in the docs.

The table says what passed, so that it is written after a run of every minor only.
"""

import collections
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.cluster import artifacts, gomodules
from tests.parts import compatibility

ROOT = Path(__file__).parents[1]
MARKS = "cluster and not (node or soak)"
BESIDE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def main() -> int:
    """Run and write; 1 if a test failed on one of them."""
    minors = sys.argv[1:] or ["", *gomodules.EARLIER_KUBERNETES]
    ran = {minor: _run(minor) for minor in minors}
    for minor, counts in ran.items():
        print(f"{_version(minor)}: {dict(counts)}")
    if any(counts["failed"] for counts in ran.values()):
        print(f"{compatibility.PAGE.name} is left as it was: not all passed", file=sys.stderr)
        return 1
    if not sys.argv[1:]:
        old = compatibility.PAGE.read_text(encoding="utf-8")
        new = compatibility.with_section(old, compatibility.KUBERNETES, _section(ran))
        compatibility.PAGE.write_text(new, encoding="utf-8")
    return 0


def _run(minor: str) -> collections.Counter[str]:
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The default form of reports takes no properties, which tests have that say something.
        command = [sys.executable, "-m", "pytest", "-q", *BESIDE, "-m", MARKS]
        command += ["-o", "junit_family=xunit1"]
        subprocess.run(
            [*command, f"--junitxml={report}", str(ROOT / "tests")],
            cwd=ROOT,
            env={**os.environ, artifacts.VERSION: minor},
            check=False,
        )
        return compatibility.counted(report)


def _version(minor: str) -> str:
    return gomodules.EARLIER_KUBERNETES.get(minor, gomodules.KUBERNETES).removeprefix("v")


def _section(ran: dict[str, collections.Counter[str]]) -> str:
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"""Written by `make kubernetes` on {when}, {platform.machine()}: the contract and
    integration tests that ask a real API server, on an API server and the controllers of each
    minor. The tests of a node run on the newest. A test is skipped where the server lacks what it
    is about, and names the minor that has it."""
    rows = [
        f"| {_version(minor)} | {counts['passed']} | {counts['skipped']} |"
        for minor, counts in ran.items()
    ]
    table = ["| Kubernetes | passed | skipped |", "|---|---|---|", *rows]
    return "\n".join([" ".join(text.split()), "", *table]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
