"""The golden tests themselves: what a failure says, and where the product may be imported."""

import ast
from pathlib import Path

import pytest

from tests.golden import held

FOLDER = Path(__file__).parent


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "FILES", tmp_path)
    return tmp_path


def test_change_fails_with_diff_and_command(files):
    (files / "words.txt").write_text("a\nold\nz\n", encoding="utf-8")
    with pytest.raises(AssertionError) as failed:
        held.check({"words.txt": "a\nnew\nz\n"})
    said = str(failed.value).splitlines()
    assert "-old" in said
    assert "+new" in said
    assert any(held.COMMAND in line for line in said)


def test_missing_file_fails(files):
    with pytest.raises(AssertionError, match=r"words\.txt"):
        held.check({"words.txt": "a\n"})


def test_written_files_are_as_held_and_what_is_made_no_more_is_deleted(files):
    (files / "gone.txt").write_text("", encoding="utf-8")
    made = {"words.txt": held.lines(["b", "a", "a"])}
    assert held.write([lambda: made]) == ["words.txt", "gone.txt"]
    held.check(made)
    assert held.write([lambda: made]) == []
    assert (files / "words.txt").read_text(encoding="utf-8") == "a\nb\n"


def test_product_is_imported_in_one_file_only():
    importing = {
        file.name
        for file in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in _imported(node)
        if name.startswith("embedding_")
    }
    assert importing == {"subjects.py"}


def _imported(node):
    if isinstance(node, ast.Import):
        return [it.name for it in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
