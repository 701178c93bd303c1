"""`make compatibility`: run the tests of clients and servers, and write docs/compatibility.md.

The page is written only when no test failed; a row that could not run says so.
"""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.parts import client_programs, compatibility

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run and write; the exit code of pytest."""
    client_programs.build_all()
    rows = compatibility.Collector()
    code = int(pytest.main(["-q", "-m", "compatibility", str(ROOT / "tests")], plugins=[rows]))
    if code != 0:
        print(f"{compatibility.PAGE.name} is left as it was: not all passed", file=sys.stderr)
        return code
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    machine = f"commit {_commit()}, {platform.machine()}, Python {platform.python_version()}"
    text = compatibility.page(rows.rows, when=when, machine=machine)
    text = compatibility.with_sections_of(text, compatibility.PAGE.read_text(encoding="utf-8"))
    compatibility.PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {compatibility.PAGE.relative_to(ROOT)}: {len(rows.rows)} rows")
    return 0


def _commit() -> str:
    """The commit that ran, and whether the tree differed from it."""
    asked = ["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
