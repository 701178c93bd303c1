"""CONTRIBUTING.md, tests/README.md and the decisions: their names exist, and each is short."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TESTS_PAGE = (ROOT / "tests/README.md").read_text(encoding="utf-8")
GLOSSARY = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("| term |")[2].partition("\n\n")[0].splitlines()[2:]
]
PACKAGES = (
    "operator/embedding_operator",
    "sidecar/embedding_http",
    "sidecar/embedding_sidecar",
    "vectors/embedding_vectors",
)
TODAY = [
    (name, file)
    for row in GLOSSARY
    for names, file in re.findall(r"((?:`\w+`(?:, )?)+) in `(\w+\.py)`", row[2])
    for name in re.findall(r"\w+", names)
]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
PARTS = ("**Context.**", "**Decision.**", "**Consequences.**", "**What would change it.**")
SCREEN_LINES = 60
SCREEN_COLUMNS = 100


def test_glossary_has_forty_rows_at_most_and_each_has_source():
    assert 0 < len(GLOSSARY) <= 40
    assert {len(row) for row in GLOSSARY} == {4}
    assert all(term and meaning and source for term, meaning, _, source in GLOSSARY)


def test_glossary_reads_every_name_of_its_third_column():
    written = sum(len(re.findall(r"`\w+`", row[2])) for row in GLOSSARY)
    assert len(TODAY) == written > 20


@pytest.mark.parametrize(("name", "file"), TODAY)
def test_word_of_today_is_class_of_code(name, file):
    places = [it for package in PACKAGES for it in (ROOT / package).rglob(file)]
    assert any(f"class {name}" in it.read_text(encoding="utf-8") for it in places)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "tests/README.md"])
def test_page_names_files_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w[\w.-]*/)+[\w.-]*)`", text))
    named |= set(re.findall(r"\b(tests/[\w/]+\.py)\b", text))
    roots = (ROOT, (ROOT / page).parent, *(ROOT / it for it in PACKAGES))
    new = {
        "sidecar/embedding_sidecar/providers/nomic.py",
        "docs/runbooks/EmbeddingBreakerOpen.md",
    }
    assert {it for it in named - new if not any((root / it).exists() for root in roots)} == set()
    linked = [it for it in re.findall(r"\]\(([^)#]+)", text) if "://" not in it]
    assert [it for it in linked if not (ROOT / page).parent.joinpath(it).exists()] == []


def test_tests_page_names_each_folder_of_tests():
    folders = {it.name for it in (ROOT / "tests").iterdir() if it.is_dir()} - {"__pycache__"}
    named = set(re.findall(r"^\| `(\w+)/` \|", TESTS_PAGE, re.MULTILINE))
    assert named == folders


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda it: it.stem)
def test_decision_has_its_four_parts_in_order_and_fits_screen(decision):
    text = decision.read_text(encoding="utf-8")
    places = [text.index(part) for part in PARTS]
    assert places == sorted(places)
    lines = [
        row for line in text.splitlines() for row in textwrap.wrap(line, SCREEN_COLUMNS) or [""]
    ]
    assert len(lines) <= SCREEN_LINES, f"{len(lines)} lines of {SCREEN_COLUMNS} columns"
