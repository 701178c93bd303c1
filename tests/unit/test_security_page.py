"""SECURITY.md names tests and pages that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_every_file_that_page_names_is_there():
    named = set(re.findall(r"`(tests/[\w./]+\.py)`", TEXT))
    named |= set(re.findall(r"\]\(([\w./-]+\.md)", TEXT))
    assert named
    assert {it for it in named if not (ROOT / it).is_file()} == set()


def test_every_row_of_table_says_what_shows_it():
    rows = [line for line in TEXT.splitlines() if line.startswith("| **")]
    assert len(rows) >= 8
    for row in rows:
        assert len(row.strip("|").split(" | ")) == 4
        assert re.search(r"tests/|decision 0", row.split(" | ")[-1]), row
